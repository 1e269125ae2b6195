//! What a sender may ask of `POST /publish` in the query.

use crate::event;
use crate::http::body::content::Dialect;
use crate::http::wire::problem::Problem;
use crate::http::wire::query::{Parameters, bad};

/// The options of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// `results=all`: an entry for each event.
    pub(crate) all_results: bool,
    /// `partial=true`: store what is valid of a list, and say what is not.
    pub(crate) partial: bool,
    /// `on_conflict=reject`: a conflict is an error.
    pub(crate) reject_conflicts: bool,
    /// `topic`: the topic of all CloudEvents, instead of their types.
    pub(crate) topic: Option<String>,
    /// `dedup=source`: a CloudEvent's source is part of its id.
    pub(crate) dedup_source: bool,
}

impl Options {
    /// Reads the options of a body of `dialect`. What is no option is ignored.
    ///
    /// # Errors
    /// An option has an unknown value, or means nothing in this dialect.
    pub(crate) fn parse(query: &str, dialect: Dialect) -> Result<Self, Problem> {
        if query.is_empty() {
            return Ok(Self::default());
        }
        let parameters = Parameters::parse(query)?;
        let options = Self {
            all_results: is_said(&parameters, "results", "all")?,
            partial: parameters.flag("partial")?,
            reject_conflicts: is_said(&parameters, "on_conflict", "reject")?,
            topic: parameters.get("topic").map(str::to_owned),
            dedup_source: is_said(&parameters, "dedup", "source")?,
        };
        options.check(dialect)?;
        Ok(options)
    }

    fn check(&self, dialect: Dialect) -> Result<(), Problem> {
        let refused = |name, msg: &str| Err(bad(name, "value_error", msg.to_owned()));
        if self.all_results && dialect == Dialect::Lines {
            return refused("results", "A stream of lines is answered with counts only: leave this out");
        }
        if !dialect.is_cloud_events() {
            if self.topic.is_some() {
                return refused("topic", "Events of this Content-Type name their topic: leave this out");
            }
            if self.dedup_source {
                return refused("dedup", "This is for CloudEvents only: leave it out");
            }
        }
        match self.topic.as_deref().map(event::check_topic) {
            Some(Err(fault)) => Err(bad("topic", fault.kind, fault.message.to_owned())),
            _ => Ok(()),
        }
    }
}

/// Whether an option has the one value that it may have; false if it is absent.
fn is_said(parameters: &Parameters, name: &'static str, value: &str) -> Result<bool, Problem> {
    match parameters.get(name) {
        None => Ok(false),
        Some(text) if text == value => Ok(true),
        Some(_) => Err(bad(name, "literal_error", format!("Input should be '{value}'"))),
    }
}
