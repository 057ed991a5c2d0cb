//! Chunks of several tables come mixed, and a statement fills one table: those of others wait for their own, up to a bound.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use errand_model::failure::Failure;

use super::{Chunk, NextChunk};

/// Bytes of chunks for other tables that may wait; past it the running statement ends, and theirs comes.
const WAITING: usize = 4 << 20;

/// Chunks on their way; those of one table keep their order.
pub(super) struct Queue {
    next: NextChunk,
    ended: bool,
    waiting: VecDeque<Chunk>,
    waiting_bytes: usize,
}

impl Queue {
    pub(super) fn new(next: NextChunk) -> Self {
        Self { next, ended: false, waiting: VecDeque::new(), waiting_bytes: 0 }
    }

    /// The chunk that opens the next statement; none at the end.
    pub(super) fn first(&mut self) -> Result<Option<Chunk>, Failure> {
        match self.take(0) {
            Some(chunk) => Ok(Some(chunk)),
            None => self.pull(),
        }
    }

    /// The next rows of the running statement's table, or none when the statement should end.
    pub(super) fn more(&mut self, table: usize) -> Result<Option<RecordBatch>, Failure> {
        if let Some(at) = self.waiting.iter().position(|chunk| chunk.table == table) {
            return Ok(self.take(at).map(|chunk| chunk.rows));
        }
        while self.waiting_bytes <= WAITING {
            match self.pull()? {
                None => break,
                Some(chunk) if chunk.table == table => return Ok(Some(chunk.rows)),
                Some(chunk) => {
                    self.waiting_bytes += chunk.rows.get_array_memory_size();
                    self.waiting.push_back(chunk);
                }
            }
        }
        Ok(None)
    }

    fn take(&mut self, at: usize) -> Option<Chunk> {
        let chunk = self.waiting.remove(at)?;
        self.waiting_bytes -= chunk.rows.get_array_memory_size();
        Some(chunk)
    }

    /// The next chunk with rows.
    fn pull(&mut self) -> Result<Option<Chunk>, Failure> {
        while !self.ended {
            match (self.next)()? {
                Some(chunk) if chunk.rows.num_rows() == 0 => {}
                Some(chunk) => return Ok(Some(chunk)),
                None => self.ended = true,
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, Int64Array};

    use super::*;

    /// Chunks of one column: the table, then the number of rows, all of them the place of the chunk.
    fn queue(chunks: &[(usize, usize)]) -> Queue {
        let chunks: Vec<Chunk> = chunks
            .iter()
            .enumerate()
            .map(|(place, (table, rows))| {
                let values = Int64Array::from(vec![i64::try_from(place).expect("few"); *rows]);
                Chunk { table: *table, rows: RecordBatch::try_from_iter([("n", Arc::new(values) as _)]).expect("a batch") }
            })
            .collect();
        let mut chunks = chunks.into_iter();
        Queue::new(Box::new(move || Ok(chunks.next())))
    }

    /// The statements: each with its table and the places of its chunks.
    fn statements(mut queue: Queue) -> Vec<(usize, Vec<i64>)> {
        let place = |rows: &RecordBatch| rows.column(0).as_any().downcast_ref::<Int64Array>().expect("numbers").value(0);
        let mut statements = Vec::new();
        while let Some(first) = queue.first().expect("nothing fails") {
            let mut places = vec![place(&first.rows)];
            while let Some(rows) = queue.more(first.table).expect("nothing fails") {
                places.push(place(&rows));
            }
            statements.push((first.table, places));
        }
        statements
    }

    #[test]
    fn a_statement_takes_all_of_its_table_in_order_and_the_others_wait() {
        assert_eq!(statements(queue(&[(1, 1), (0, 1), (1, 0), (1, 1), (0, 1), (1, 1)])), [(1, vec![0, 3, 5]), (0, vec![1, 4])]);
        assert_eq!(statements(queue(&[(0, 0)])), []);
    }

    #[test]
    fn a_statement_ends_when_too_much_waits_and_nothing_is_lost() {
        let large = WAITING / 8 + 1;
        let found = statements(queue(&[(0, 1), (1, large), (0, 1), (1, 1)]));
        assert_eq!(found, [(0, vec![0]), (1, vec![1, 3]), (0, vec![2])]);
    }
}
