//! Readers take turns: a bounded number reads at once, and those that wait are let in round robin,
//! client by client, and within a client reader by reader.
//!
//! A client that asks for a thousand listings at once waits for itself: one that asks for its first
//! is after one read of each other client, not after the thousand.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::sync::Mutex;

/// Places, and those who wait for one.
#[derive(Debug)]
pub(crate) struct Turns {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Places that nobody has; none while somebody waits.
    free: Vec<usize>,
    /// The clients that wait, and their readers; the first has its turn next.
    clients: VecDeque<Line<Line<oneshot::Sender<Turn>>>>,
}

/// What waits for one client, or for one reader of it.
#[derive(Debug)]
struct Line<T> {
    of: u64,
    waiting: VecDeque<T>,
}

/// What waits for `of` among `lines`.
fn waiting<T>(lines: &mut VecDeque<Line<T>>, of: u64) -> &mut VecDeque<T> {
    let at = lines.iter().position(|line| line.of == of).unwrap_or_else(|| {
        lines.push_back(Line { of, waiting: VecDeque::new() });
        lines.len() - 1
    });
    &mut lines[at].waiting
}

/// What `take` finds in the first line that has something. Each line that was looked at goes to the
/// end, or away if it is empty.
fn next<T, U>(lines: &mut VecDeque<Line<T>>, take: impl Fn(&mut VecDeque<T>) -> Option<U>) -> Option<U> {
    while let Some(mut line) = lines.pop_front() {
        let next = take(&mut line.waiting);
        if !line.waiting.is_empty() {
            lines.push_back(line);
        }
        if next.is_some() {
            return next;
        }
    }
    None
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    place: usize,
}

impl Turn {
    /// The number of the place, from 0; nobody else has it meanwhile.
    pub(crate) fn place(&self) -> usize {
        self.place
    }
}

impl Turns {
    pub(crate) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State { free: (0..places).rev().collect(), clients: VecDeque::new() }),
        })
    }

    /// Waits for a place. Who stops waiting is passed over.
    pub(crate) async fn wait(self: &Arc<Self>, client: u64, reader: u64) -> Turn {
        match self.ask(client, reader) {
            Ok(turn) => turn,
            // A place is passed on to whoever waits, so the sender is never dropped unused; were
            // it, one reads out of turn.
            Err(turn) => turn.await.unwrap_or_else(|_| Turn { turns: Arc::clone(self), place: 0 }),
        }
    }

    fn ask(self: &Arc<Self>, client: u64, reader: u64) -> Result<Turn, oneshot::Receiver<Turn>> {
        let mut state = self.state.lock();
        if let Some(place) = state.free.pop() {
            return Ok(Turn { turns: Arc::clone(self), place });
        }
        let (sender, turn) = oneshot::channel();
        waiting(waiting(&mut state.clients, client), reader).push_back(sender);
        Err(turn)
    }

    /// Whose turn it is; if nobody waits any more, this place is free.
    fn next(&self, place: usize) -> Option<oneshot::Sender<Turn>> {
        let mut state = self.state.lock();
        let next = next(&mut state.clients, |readers| {
            next(readers, |waiting| {
                std::iter::from_fn(|| waiting.pop_front()).find(|waiting| !waiting.is_closed())
            })
        });
        if next.is_none() {
            state.free.push(place);
        }
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(next) = self.turns.next(self.place) {
            // Who has just stopped waiting drops it, and it is passed on.
            let _ = next.send(Self { turns: Arc::clone(&self.turns), place: self.place });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_take_turns_and_who_has_gone_is_passed_over() {
        let turns = Turns::new(1);
        let first = turns.ask(0, 1).unwrap();
        let mut crowd: Vec<_> = (0..3).map(|_| turns.ask(0, 1).unwrap_err()).collect();
        let mut other = turns.ask(0, 2).unwrap_err();
        drop(crowd.remove(0));
        drop(first);
        let second = crowd[0].try_recv().unwrap();
        assert!(other.try_recv().is_err());
        drop(second);
        let third = other.try_recv().unwrap();
        drop((third, other));
        let fourth = crowd[1].try_recv().unwrap();
        drop(turns.ask(0, 3).unwrap_err());
        drop(fourth);
        let fifth = turns.ask(0, 4).unwrap();
        assert!(turns.ask(0, 4).is_err());
        drop(fifth);
    }

    #[test]
    fn a_client_with_many_readers_has_no_more_turns_than_one_with_few() {
        let turns = Turns::new(1);
        let first = turns.ask(1, 0).unwrap();
        let mut crowd: Vec<_> = (0..9).map(|reader| turns.ask(1, reader).unwrap_err()).collect();
        let mut other = turns.ask(2, 0).unwrap_err();
        drop(first);
        drop(crowd[0].try_recv().unwrap());
        drop(other.try_recv().unwrap());
        drop(crowd[1].try_recv().unwrap());
    }
}
