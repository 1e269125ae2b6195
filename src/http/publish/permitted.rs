//! Which events of a request its sender may publish.

use std::collections::BTreeSet;

use hyper::StatusCode;

use crate::auth::Caller;
use crate::event::{Batch, EventRef, Field};
use crate::http::publish::chunk::Chunk;
use crate::http::publish::decode::Decoded;
use crate::http::wire::problem::{Fault, Loc, Problem};
use crate::limits::FAULTS_LISTED_MAX;

/// The word for programs of a fault that is the sender's lack of a scope.
pub(crate) const FORBIDDEN: &str = "forbidden";

/// Marks an answer to a sender who takes part of a request for done: some of it may not be
/// published with this token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HasForbidden;

/// Leaves of a body what its caller may publish.
///
/// # Errors
/// 403: some of it may not be published, and the sender does not take part of it for an answer.
pub(crate) fn only(caller: &Caller, mut decoded: Decoded, is_partial: bool) -> Result<Decoded, Problem> {
    let forbidden = forbidden(caller, &decoded.batch);
    if forbidden.is_empty() {
        return Ok(decoded);
    }
    let index = |at: usize| match &decoded.indexes {
        Some(indexes) => indexes.get(at).copied().unwrap_or(at),
        None => at,
    };
    let faults = forbidden.iter().take(FAULTS_LISTED_MAX).map(|&(at, field)| {
        let mut loc = vec![Loc::Name("body")];
        loc.extend((!decoded.is_single).then(|| Loc::Index(index(at))));
        (index(at), fault(loc, field))
    });
    let faults: Vec<_> = faults.collect();
    if decoded.is_single || !is_partial {
        return Err(refusal(faults.into_iter().map(|(_, fault)| fault).collect()));
    }
    let gone: BTreeSet<usize> = forbidden.iter().map(|(at, _)| *at).collect();
    let kept = (0..decoded.batch.len()).filter(|at| !gone.contains(at)).map(index);
    decoded.indexes = Some(kept.collect());
    decoded.batch.retain(|at, _| !gone.contains(&at));
    decoded.rejected += gone.len() as u64;
    decoded.faults.extend(faults);
    decoded.faults.sort_by_key(|(index, _)| *index);
    Ok(decoded)
}

/// Leaves of lines what their caller may publish. The first that may not be published ends the
/// chunk, unless it is to go on. How many were left out.
pub(crate) fn only_lines(caller: &Caller, chunk: &mut Chunk, goes_on: bool) -> u64 {
    let mut forbidden = forbidden(caller, &chunk.batch);
    let Some(&(first, _)) = forbidden.first() else { return 0 };
    if !goes_on {
        forbidden.truncate(1);
        chunk.through = chunk.numbers[first] - 1;
        chunk.numbers.truncate(first);
        chunk.batch.retain(|at, _| at < first);
        chunk.faults.clear();
    }
    let line = |at: usize| chunk.numbers.get(at).copied().unwrap_or(chunk.through + 1);
    let faults = forbidden.iter().take(FAULTS_LISTED_MAX).map(|&(at, field)| {
        let line = line(at);
        (line, fault(vec![Loc::Name("body"), Loc::Index(line)], field))
    });
    let faults: Vec<_> = faults.collect();
    chunk.faults.extend(faults);
    chunk.faults.sort_by_key(|(line, _)| *line);
    chunk.faults.truncate(FAULTS_LISTED_MAX);
    if goes_on {
        let gone: BTreeSet<usize> = forbidden.iter().map(|(at, _)| *at).collect();
        let mut at = 0..;
        chunk.numbers.retain(|_| at.next().is_some_and(|at| !gone.contains(&at)));
        chunk.batch.retain(|at, _| !gone.contains(&at));
    }
    forbidden.len() as u64
}

/// A refusal of what may not be published.
pub(crate) fn refusal(faults: Vec<Fault>) -> Problem {
    let message = "the token's scopes do not allow some of this; nothing of it was stored";
    Problem::invalid(faults).saying(StatusCode::FORBIDDEN, message)
}

/// The events of a batch that a caller may not publish: their indexes, and the fields for which.
fn forbidden(caller: &Caller, batch: &Batch) -> Vec<(usize, Field)> {
    if caller.may_publish_all() {
        return Vec::new();
    }
    let field = |event: EventRef<'_>| match () {
        () if !caller.may_publish(event.topic) => Some(Field::Topic),
        () if !caller.may_name(event.source) => Some(Field::Source),
        () => None,
    };
    let faults = batch.iter().enumerate().filter_map(|(at, event)| Some((at, field(event)?)));
    faults.collect()
}

/// The fault of an event that may not be published; `loc` is where the event stands.
fn fault(mut loc: Vec<Loc>, field: Field) -> Fault {
    loc.push(Loc::Name(field.name()));
    let msg = match field {
        Field::Source => "The token may not publish events of this source",
        _ => "The token may not publish to this topic",
    };
    Fault { loc, msg: msg.to_owned(), kind: FORBIDDEN }
}
