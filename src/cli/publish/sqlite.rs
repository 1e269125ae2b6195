//! Moving over from a SQLite database, as services of this kind keep: events, and ids that were
//! seen.
//!
//! ```text
//! open (nothing is written) → schema, names (which table, which columns) → plan → rows → Sender, or a dry run's report
//! ```

mod arguments;
mod names;
mod open;
mod plan;
mod repeated;
mod report;
mod rows;
mod schema;

use std::collections::HashSet;

pub(super) use self::arguments::Database;
pub(super) use self::plan::Plan;
use self::report::{Outlook, Refused};
use super::sender::Sender;
use crate::cli::exit::{Exit, Failure};
use crate::cli::terminal::output::{print, say};

impl Database {
    /// What is to be moved, if there is a database. All that may be wrong with the tables is found
    /// before anything is sent.
    pub(super) fn plan(&self) -> Result<Option<Plan>, Failure> {
        let Some(path) = &self.sqlite else { return Ok(None) };
        let plan = self.planned(path)?;
        say(&plan);
        if !plan.unread.is_empty() {
            say(format_args!(
                "warning: {} of {} may hold payloads and stays behind: no event can be moved under these ids afterwards",
                report::printable(&plan.unread.join(", ")),
                report::printable(&plan.reading.table)
            ));
        }
        Ok(Some(plan))
    }

    /// Whether nothing is to be sent.
    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

impl Plan {
    /// Gives all rows to `sender`, and compares the counts.
    pub(super) fn feed(&self, sender: &mut Sender) -> Result<(), Failure> {
        let mut refused = Refused::default();
        // The first event of each id comes first: the store must hold that one, so every conflict is one
        // with another event than the database's. Of ids alone there is no payload to compare.
        sender.name_conflicts(self.has_payloads());
        let rows = self.send(sender, &mut refused, false)?;
        sender.flush()?;
        sender.name_conflicts(false);
        if !self.repeated.is_empty() {
            self.send(sender, &mut refused, true)?;
            sender.flush()?;
        }
        for line in refused.to_string().lines() {
            say(line.trim_start());
        }
        compare(self, sender, rows)
    }

    /// Gives those events to `sender` whose ids were not there before, or all others; how many rows
    /// there are.
    fn send(&self, sender: &mut Sender, refused: &mut Refused, is_again: bool) -> Result<u64, Failure> {
        let mut seen = HashSet::new();
        self.each(|row, event| {
            if event.as_ref().is_ok_and(|event| self.repeated.is_again(event, &mut seen)) != is_again {
                return Ok(());
            }
            let line = event.and_then(|event| serde_json::to_vec(&event).map_err(|e| e.to_string().into()));
            match line {
                Ok(line) => sender.take(row, &line),
                Err(reason) => {
                    sender.refuse(row, &reason);
                    refused.add(row, reason);
                    Ok(())
                }
            }
        })
    }

    /// Says what would become of all rows.
    pub(super) fn foretell(&self, as_json: bool) -> Result<Exit, Failure> {
        let mut refused = Refused::default();
        let rows = self.each(|row, event| {
            if let Err(reason) = event.and_then(|event| event.check()) {
                refused.add(row, reason);
            }
            Ok(())
        })?;
        let outlook = Outlook { reading: &self.reading, rows, ids: self.ids, refused };
        if as_json {
            print(outlook.as_json())?;
        } else {
            print(&outlook)?;
        }
        tell_without(self);
        Ok(if outlook.would_move() == rows { Exit::Success } else { Exit::Fault })
    }
}

/// Holds what was answered against what was read.
fn compare(plan: &Plan, sender: &Sender, rows: u64) -> Result<(), Failure> {
    let (totals, ids) = (sender.totals(), plan.ids);
    tell_without(plan);
    if totals.received.saturating_add(totals.rejected) != rows || totals.unique_processed > ids {
        let sentence = format!(
            "{rows} rows with {ids} ids were read, but {} were answered, {} of them as new: run it again",
            totals.received, totals.unique_processed
        );
        return Err(Failure::new(Exit::Fault, sentence));
    }
    let kept = sender.named_conflicts();
    if totals.rejected > 0 || kept > 0 {
        let moved = totals.received.saturating_sub(kept);
        let mut sentence = format!("not all is moved: {moved} of {rows} events are");
        if kept > 0 {
            sentence += &format!("; under {kept} ids the store keeps another payload than the database's");
        }
        return Err(Failure::new(Exit::Fault, sentence));
    }
    let mut sentence = format!("verified: all {rows} events with {ids} ids are stored");
    if !plan.repeated.is_empty() && totals.conflicts > 0 {
        sentence += &format!(
            "; of an id that is there several times the first row counts, and {} others have another payload",
            totals.conflicts
        );
    }
    say(sentence);
    Ok(())
}

fn tell_without(plan: &Plan) {
    for (table, ids) in &plan.without {
        say(format_args!(
            "{ids} ids of {} have no event in {}, so what comes under them again is stored: \
             run it again with --ids-only to have that dropped",
            report::printable(table),
            report::printable(&plan.reading.table)
        ));
    }
}
