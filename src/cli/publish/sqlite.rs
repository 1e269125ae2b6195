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
mod report;
mod rows;
mod schema;

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
        let rows = self.each(|row, event| {
            let line = event.and_then(|event| serde_json::to_vec(&event).map_err(|e| e.to_string().into()));
            match line {
                Ok(line) => sender.take(row, &line),
                Err(reason) => {
                    sender.refuse(row, &reason);
                    refused.add(row, reason);
                    Ok(())
                }
            }
        })?;
        sender.flush()?;
        for line in refused.to_string().lines() {
            say(line.trim_start());
        }
        compare(self, sender, rows)
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
    if totals.rejected > 0 {
        let moved = totals.received;
        return Err(Failure::new(Exit::Fault, format!("not all is moved: {moved} of {rows} events are")));
    }
    say(format_args!("verified: all {rows} events with {ids} ids are stored"));
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
