//! Whole records become a batch: cut into cells, parsed column by column, refused one by one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::filter;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use errand_model::document::step::SchemaContract;
use errand_model::failure::{Failure, FailureKind};
use errand_model::value::ColumnType;
use memchr::memchr;

use super::column::{self, Builder, Faults, Group};
use super::dialect::Dialect;
use super::field::{self, Cell, CellKind};
use super::reject::{self, Refusal};
use super::slab::Slab;
use super::split::Record;
use super::{Batch, Resolved, header, json};

/// Cells parsed at once: few enough to stay in a cache.
const GROUP: usize = 16 * 1024;

/// All that parsing needs and that is the same for every record.
pub(super) struct Plan {
    dialect: Dialect,
    resolved: Resolved,
    contract: SchemaContract,
    schema: SchemaRef,
    /// Columns by their key in JSON.
    keys: HashMap<Vec<u8>, usize>,
    /// Columns by their key in lower case.
    lower_keys: HashMap<String, usize>,
    /// Columns with the same key as another one: theirs and the other.
    twins: Vec<(usize, usize)>,
}

impl Plan {
    pub(super) fn new(dialect: Dialect, resolved: Resolved, contract: SchemaContract) -> Self {
        let mut keys = HashMap::new();
        let mut lower_keys = HashMap::new();
        let mut twins = Vec::new();
        for (index, column) in resolved.columns.iter().enumerate() {
            if let Some(first) = keys.get(column.from.as_bytes()) {
                twins.push((index, *first));
                continue;
            }
            keys.insert(column.from.as_bytes().to_vec(), index);
            lower_keys.entry(column.from.to_lowercase()).or_insert(index);
        }
        let schema = Arc::new(column::schema(&resolved));
        Self { dialect, resolved, contract, schema, keys, lower_keys, twins }
    }

    pub(super) fn dialect(&self) -> &Dialect {
        &self.dialect
    }

    pub(super) fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    pub(super) fn contract(&self) -> SchemaContract {
        self.contract
    }

    /// The column of a key, in any case unless one has it exactly. `hint` is where it is expected.
    fn column_of(&self, key: &[u8], hint: usize) -> Option<usize> {
        if self.resolved.columns.get(hint).is_some_and(|column| column.from.as_bytes() == key) && self.twins.is_empty() {
            return Some(hint);
        }
        self.keys.get(key).or_else(|| std::str::from_utf8(key).ok().and_then(|key| self.lower_keys.get(&key.to_lowercase()))).copied()
    }
}

/// Parses a slab.
///
/// # Errors
///
/// When a JSON key is not expected and the contract is `freeze`.
pub(super) fn parse(plan: &Plan, slab: &Slab, path: &str) -> Result<Batch, Failure> {
    let mut work = Work::new(plan, slab, path);
    let (first, last) = (slab.records.first().map_or(0, |record| record.start), slab.records.last().map_or(0, |record| record.end));
    let span = &slab.bytes[first as usize..last as usize];
    let is_clean = memchr(0, span).is_none() && std::str::from_utf8(span).is_ok();
    for (index, record) in slab.records.iter().enumerate() {
        let before = work.cells.len();
        let admitted = match is_clean || work.is_text(index, *record) {
            true if plan.dialect.is_csv() => work.cut(index, *record),
            true => work.object(index, *record)?,
            false => false,
        };
        if admitted {
            work.members.push(index);
        } else {
            work.cells.truncate(before);
        }
        if work.cells.len() >= GROUP {
            work.flush();
        }
    }
    work.flush();
    work.finish().map_err(|error| {
        Failure::new(FailureKind::Internal, "source::arrow", format!("cannot make a batch of `{path}`: {error}"))
            .help("this is a defect of errand: report it")
    })
}

struct Work<'a> {
    plan: &'a Plan,
    slab: &'a Slab,
    path: &'a str,
    width: usize,
    /// Cells of the group.
    cells: Vec<Cell>,
    /// Records of the group.
    members: Vec<usize>,
    builders: Vec<Builder<'a>>,
    faults: Faults,
    kept: Vec<bool>,
    numbers: Vec<i64>,
    refusals: Vec<Refusal>,
    /// Keys and values of an object that no column wants.
    unknown: Vec<(Cell, Cell)>,
}

impl<'a> Work<'a> {
    fn new(plan: &'a Plan, slab: &'a Slab, path: &'a str) -> Self {
        let rows = slab.records.len();
        let columns = &plan.resolved.columns;
        let span = slab.records.last().map_or(0, |record| record.end) - slab.records.first().map_or(0, |record| record.start);
        let texts = columns.iter().filter(|column| matches!(column.kind, ColumnType::Text | ColumnType::Json)).count();
        let text_bytes = span as usize / columns.len().max(texts * 2).max(1);
        let builder = |(index, column)| Builder::new(index, column, rows, text_bytes);
        Self {
            plan,
            slab,
            path,
            width: if plan.dialect.is_csv() { slab.mapping.fields } else { columns.len() },
            cells: Vec::with_capacity(GROUP + 256),
            members: Vec::new(),
            builders: columns.iter().enumerate().map(builder).collect(),
            faults: Faults::default(),
            kept: Vec::with_capacity(rows),
            numbers: Vec::with_capacity(rows),
            refusals: Vec::new(),
            unknown: Vec::new(),
        }
    }

    fn refuse(&mut self, record: usize, at: usize, column: Option<usize>, error: String) -> bool {
        self.refusals.push(Refusal { record, at: Some(at), column, error, by_contract: false });
        false
    }

    fn refuse_by_contract(&mut self, record: usize, at: usize, error: String) -> bool {
        self.refusals.push(Refusal { record, at: Some(at), column: None, error, by_contract: true });
        false
    }

    /// Whether a record is text; says what is not.
    #[cold]
    fn is_text(&mut self, index: usize, record: Record) -> bool {
        let (start, end) = (record.start as usize, record.end as usize);
        let text = &self.slab.bytes[start..end];
        let (at, error) = match (std::str::from_utf8(text), memchr(0, text)) {
            (Ok(_), None) => return true,
            (Ok(_), Some(at)) => (start + at, "a NUL byte stands in the record; no text column holds it".to_owned()),
            (Err(error), _) => {
                let at = start + error.valid_up_to();
                let (byte, offset) = (self.slab.bytes[at], self.slab.offset + at as u64);
                let help = "if the file is written in another encoding, declare `encoding: latin-1` or `encoding: windows-1252`";
                (at, format!("invalid UTF-8 at byte {offset} (`\\x{byte:02x}`); {help}"))
            }
        };
        let column = self.column_at(record, at);
        self.refuse(index, at, column, error)
    }

    /// The column of the field around a byte.
    fn column_at(&self, record: Record, at: usize) -> Option<usize> {
        let mut cells = Vec::new();
        if !self.plan.dialect.is_csv() || field::cut(&self.slab.bytes, record, self.plan.dialect.marks, &mut cells).is_err() {
            return None;
        }
        let field = cells.iter().position(|cell| (cell.start as usize..cell.end as usize).contains(&at))?;
        self.slab.mapping.columns.iter().position(|from| *from == Some(field))
    }

    /// Cuts a delimited record into cells; whether it has as many as it must.
    fn cut(&mut self, index: usize, record: Record) -> bool {
        let before = self.cells.len();
        let (bytes, mapping) = (&self.slab.bytes, &self.slab.mapping);
        if let Err(after) = field::cut(bytes, record, self.plan.dialect.marks, &mut self.cells) {
            return self.refuse(
                index,
                after.0,
                None,
                "text follows a closing quote; quotes inside of a quoted field are doubled or escaped".to_owned(),
            );
        }
        if self.plan.dialect.trailing_delimiter {
            let last = self.cells.pop();
            if !last.is_some_and(|cell| cell.start == cell.end && cell.kind == CellKind::Plain) || self.cells.len() == before {
                return self.refuse(index, record.end as usize, None, "expected a delimiter at the end of the record".to_owned());
            }
        }
        let found = self.cells.len() - before;
        if found != mapping.fields {
            let at = self.cells.get(before + mapping.fields).map_or(record.end, |cell| cell.start) as usize;
            return self.refuse(index, at, None, format!("expected {}, found {found}", fields(mapping.fields)));
        }
        for (field, name) in &mapping.refused {
            let cell = self.cells[before + field];
            if cell.kind != CellKind::Plain || !self.plan.dialect.is_null(cell.bytes(bytes)) {
                let error = format!("column `{name}` is not expected and holds `{}`", reject::shown(cell.bytes(bytes)));
                return self.refuse_by_contract(index, cell.start as usize, error);
            }
        }
        true
    }

    /// Takes a JSON object apart into cells; whether it is one.
    fn object(&mut self, index: usize, record: Record) -> Result<bool, Failure> {
        let (plan, bytes, before) = (self.plan, &self.slab.bytes, self.cells.len());
        self.cells.resize(before + self.width, Cell::MISSING);
        self.unknown.clear();
        let (cells, unknown, mut hint) = (&mut self.cells[before..], &mut self.unknown, 0);
        let taken = json::object(bytes, record.start as usize, record.end as usize, |key, value| {
            match plan.column_of(&json::unescape(key.bytes(bytes)), hint) {
                Some(column) if cells[column].kind == CellKind::Missing => {
                    cells[column] = value;
                    hint = column + 1;
                }
                Some(_) => return Err(json::Fault { at: key.start as usize, message: "a key stands twice in the object" }),
                None => unknown.push((key, value)),
            }
            Ok(())
        });
        for (column, first) in &plan.twins {
            cells[*column] = cells[*first];
        }
        if let Err(fault) = taken {
            return Ok(self.refuse(index, fault.at, None, format!("invalid JSON: {}", fault.message)));
        }
        if self.unknown.is_empty() { Ok(true) } else { self.unknown(index) }
    }

    /// What the contract does to keys that no column wants.
    fn unknown(&mut self, index: usize) -> Result<bool, Failure> {
        let bytes = &self.slab.bytes;
        let mut seen = HashSet::with_capacity(self.unknown.len());
        for (key, value) in std::mem::take(&mut self.unknown) {
            let name = json::unescape(key.bytes(bytes));
            let shown = reject::shown(&name);
            let at = key.start as usize - 1;
            let error = match self.plan.contract {
                SchemaContract::Freeze => return Err(header::unexpected(&shown, &reject::place(self.slab, at, self.path))),
                SchemaContract::Evolve => {
                    let sampled = self.plan.resolved.sampled;
                    Some(format!(
                        "key `{shown}` is not in the first {sampled} records, which the columns were inferred from: declare `columns`"
                    ))
                }
                SchemaContract::Quarantine | SchemaContract::DiscardRow if value.kind != CellKind::Null => {
                    let error = format!("key `{shown}` is not expected and holds `{}`", reject::shown(value.bytes(bytes)));
                    return Ok(self.refuse_by_contract(index, at, error));
                }
                SchemaContract::Quarantine | SchemaContract::DiscardRow | SchemaContract::DiscardValue => None,
            };
            if let Some(error) = error {
                return Ok(self.refuse(index, at, None, error));
            }
            if !seen.insert(name) {
                return Ok(self.refuse(index, at, None, "invalid JSON: a key stands twice in the object".to_owned()));
            }
        }
        Ok(true)
    }

    /// Parses the group, column by column.
    fn flush(&mut self) {
        let rows = self.members.len();
        if rows == 0 {
            return;
        }
        let is_csv = self.plan.dialect.is_csv();
        let group = Group { bytes: &self.slab.bytes, cells: &self.cells, width: self.width.max(1), rows, dialect: &self.plan.dialect };
        self.faults.reset(rows);
        for (index, builder) in self.builders.iter_mut().enumerate() {
            let from = if is_csv { self.slab.mapping.columns[index] } else { Some(index) };
            builder.append(&group, from, &mut self.faults);
        }
        for fault in &self.faults.list {
            let error = reject::complaint(&self.plan.resolved, fault.column, &group.text(fault.cell), fault.reason);
            let at = (fault.cell.kind != CellKind::Missing).then_some(fault.cell.start as usize);
            self.refusals.push(Refusal { record: self.members[fault.row], at, column: Some(fault.column), error, by_contract: false });
        }
        self.kept.extend(self.faults.bad.iter().map(|bad| !bad));
        let first = self.slab.first_row;
        self.numbers.extend(self.members.iter().map(|member| (first + *member as u64).cast_signed()));
        self.cells.clear();
        self.members.clear();
    }

    fn finish(self) -> Result<Batch, ArrowError> {
        let mut columns = self.builders.into_iter().map(Builder::finish).collect::<Result<Vec<ArrayRef>, _>>()?;
        let mut row_numbers = Int64Array::from(self.numbers);
        let rows = self.kept.iter().filter(|kept| **kept).count();
        if rows < self.kept.len() {
            let kept = BooleanArray::from(self.kept);
            for column in &mut columns {
                *column = filter(column, &kept)?;
            }
            let numbers = filter(&row_numbers, &kept)?;
            row_numbers = Int64Array::from(numbers.to_data());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.plan.schema), columns, &options)?;
        let rejected = reject::rejected(self.slab, self.refusals, &self.plan.resolved, self.path);
        Ok(Batch { file: self.slab.file, rows, row_numbers, read: self.slab.records.len() as u64, rejected })
    }
}

fn fields(count: usize) -> String {
    if count == 1 { "1 field".to_owned() } else { format!("{count} fields") }
}
