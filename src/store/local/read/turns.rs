//! Readers take turns: so many read at once, and those that wait are let in round robin, reader by
//! reader.
//!
//! A client that asks for a thousand listings at once waits for itself: one that asks for its first
//! is after one read of each other reader, not after the thousand.

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
    free: usize,
    /// Who waits, by reader; the first has its turn next.
    lines: VecDeque<Line>,
}

#[derive(Debug)]
struct Line {
    reader: u64,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
}

impl Turns {
    pub(crate) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { free: places, lines: VecDeque::new() }) })
    }

    /// Waits for a place. Who stops waiting is passed over.
    pub(crate) async fn wait(self: &Arc<Self>, reader: u64) -> Turn {
        match self.ask(reader) {
            Ok(turn) => turn,
            // A place is passed on to whoever waits, so the sender is never dropped unused; were
            // it, one reads out of turn.
            Err(turn) => turn.await.unwrap_or_else(|_| Turn { turns: Arc::clone(self) }),
        }
    }

    fn ask(self: &Arc<Self>, reader: u64) -> Result<Turn, oneshot::Receiver<Turn>> {
        let mut state = self.state.lock();
        if state.free > 0 {
            state.free -= 1;
            return Ok(Turn { turns: Arc::clone(self) });
        }
        let (sender, turn) = oneshot::channel();
        match state.lines.iter_mut().find(|line| line.reader == reader) {
            Some(line) => line.waiting.push_back(sender),
            None => state.lines.push_back(Line { reader, waiting: [sender].into() }),
        }
        Err(turn)
    }

    /// Whose turn it is; if nobody waits any more, the place is free.
    fn next(&self) -> Option<oneshot::Sender<Turn>> {
        let mut state = self.state.lock();
        while let Some(mut line) = state.lines.pop_front() {
            let next = std::iter::from_fn(|| line.waiting.pop_front()).find(|waiting| !waiting.is_closed());
            if !line.waiting.is_empty() {
                state.lines.push_back(line);
            }
            if next.is_some() {
                return next;
            }
        }
        state.free += 1;
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(next) = self.turns.next() {
            // Who has just stopped waiting drops it, and it is passed on.
            let _ = next.send(Self { turns: Arc::clone(&self.turns) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_take_turns_and_who_has_gone_is_passed_over() {
        let turns = Turns::new(1);
        let first = turns.ask(1).unwrap();
        let mut crowd: Vec<_> = (0..3).map(|_| turns.ask(1).unwrap_err()).collect();
        let mut other = turns.ask(2).unwrap_err();
        drop(crowd.remove(0));
        drop(first);
        let second = crowd[0].try_recv().unwrap();
        assert!(other.try_recv().is_err());
        drop(second);
        let third = other.try_recv().unwrap();
        drop((third, other));
        let fourth = crowd[1].try_recv().unwrap();
        drop(turns.ask(3).unwrap_err());
        drop(fourth);
        let fifth = turns.ask(4).unwrap();
        assert!(turns.ask(4).is_err());
        drop(fifth);
    }
}
