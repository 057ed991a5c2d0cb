//! What steps need: ids, cycles, and which steps surely ran before another.

use std::collections::HashMap;

use super::Cx;
use crate::decode::Spanned;
use crate::document::step::StepDocument;
use crate::problem::{line_and_column, nearest};
use crate::value::Name;

/// The steps of a job and what they need, by position.
pub(super) struct Graph {
    /// Positions of the steps that each step needs directly.
    pub(super) needs: Vec<Vec<usize>>,
    /// Whether there is a cycle; then nothing is told of what ran before.
    has_cycle: bool,
}

impl Graph {
    pub(super) fn build(steps: &[Spanned<StepDocument>], cx: &mut Cx<'_>) -> Self {
        let mut positions: HashMap<&str, usize> = HashMap::new();
        for (position, step) in steps.iter().enumerate() {
            let Some(id) = &step.id else { continue };
            if let Some(first) = positions.get(id.as_str()) {
                let first = steps[*first].id.as_ref().map_or(0, |id| id.span.start);
                let line = line_and_column(cx.text, first).0;
                let message = format!("step `{}` is already on line {line}", id.value);
                cx.error("definition::duplicate_step", message, "give one of them another id", &id.span);
            } else {
                positions.insert(id.as_str(), position);
            }
        }
        let needs = steps.iter().enumerate().map(|(position, step)| needs(position, step, &positions, cx)).collect();
        let mut graph = Self { needs, has_cycle: false };
        graph.find_cycle(steps, cx);
        graph
    }

    /// Whether each step surely ran before the one at `position`.
    pub(super) fn before(&self, position: usize) -> Vec<bool> {
        if self.has_cycle {
            return vec![true; self.needs.len()];
        }
        let mut before = vec![false; self.needs.len()];
        let mut open = self.needs[position].clone();
        while let Some(next) = open.pop() {
            if !std::mem::replace(&mut before[next], true) {
                open.extend(&self.needs[next]);
            }
        }
        before
    }

    fn find_cycle(&mut self, steps: &[Spanned<StepDocument>], cx: &mut Cx<'_>) {
        let mut done = vec![false; self.needs.len()];
        for start in 0..self.needs.len() {
            let Some(cycle) = cycle_from(start, &self.needs, &mut done) else { continue };
            self.has_cycle = true;
            let name = |position: &usize| steps[*position].id.as_ref().map_or("", |id| id.as_str());
            let mut names: Vec<&str> = cycle.iter().map(name).collect();
            names.push(names[0]);
            let last = &steps[cycle[cycle.len() - 1]];
            let place = last.needs.as_ref().and_then(|needs| needs.iter().find(|need| need.as_str() == names[0]));
            let span = place.map_or_else(|| cx.head(&last.span), |need| need.span.clone());
            cx.error(
                "definition::cycle",
                format!("steps need each other in a circle: {}", names.join(" → ")),
                "remove one of these needs",
                &span,
            );
            return;
        }
    }
}

fn needs(position: usize, step: &StepDocument, positions: &HashMap<&str, usize>, cx: &mut Cx<'_>) -> Vec<usize> {
    let Some(needs) = &step.needs else { return position.checked_sub(1).into_iter().collect() };
    let mut found = Vec::new();
    for need in &needs.value {
        match positions.get(need.as_str()) {
            Some(same) if *same == position => {
                cx.error("definition::cycle", format!("step `{}` needs itself", need.value), "remove it", &need.span);
            }
            Some(other) if found.contains(other) => {
                cx.error("definition::duplicate_need", format!("`{}` stands here twice", need.value), "remove one of them", &need.span);
            }
            Some(other) => found.push(*other),
            None => {
                let known: Vec<&str> = positions.keys().copied().collect();
                let help = unknown_help(need, known);
                cx.error("definition::unknown_step", format!("there is no step `{}`", need.value), help, &need.span);
            }
        }
    }
    found
}

fn unknown_help(need: &Name, mut known: Vec<&str>) -> String {
    known.sort_unstable();
    match nearest(need.as_str(), known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("steps are {}", super::words(&known)),
    }
}

/// Depth first, without recursion: a job may be one long chain.
fn cycle_from(start: usize, needs: &[Vec<usize>], done: &mut [bool]) -> Option<Vec<usize>> {
    let mut path: Vec<(usize, usize)> = vec![(start, 0)];
    while let Some((node, next)) = path.last_mut() {
        if done[*node] {
            path.pop();
        } else if let Some(child) = needs[*node].get(*next).copied() {
            *next += 1;
            if let Some(from) = path.iter().position(|(on_path, _)| *on_path == child) {
                return Some(path[from..].iter().map(|(node, _)| *node).collect());
            }
            if !done[child] {
                path.push((child, 0));
            }
        } else {
            done[*node] = true;
            path.pop();
        }
    }
    None
}
