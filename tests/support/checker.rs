//! Holds what can be read against what clients were told, while no request is under way.

use std::collections::{BTreeMap, HashSet};

use super::history::{History, Key, Kind, Seen, Totals, Violation};

/// Which events to list.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub topic: Option<String>,
    pub descending: bool,
    pub cursor: Option<String>,
    pub limit: usize,
}

/// A page of a listing.
#[derive(Clone, Debug, Default)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next_cursor: Option<String>,
}

/// What a listing of topics says of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFigures {
    pub topic: String,
    pub unique: u64,
    pub last_offset: u64,
}

/// How the checker reads; errors are sentences.
pub trait Reader {
    fn list(&mut self, listing: &Listing) -> Result<Page<Seen>, String>;
    fn find(&mut self, key: &Key) -> Result<Option<Seen>, String>;
    fn totals(&mut self) -> Result<Totals, String>;
    fn topics(&mut self, cursor: Option<&str>) -> Result<Page<TopicFigures>, String>;
}

/// Events looked up by id beside those touched since the last check.
const FINDS_SAMPLED: usize = 500;
/// Cursors kept to be used again after later restarts.
const CURSORS_KEPT: usize = 16;

/// Looks up what changed since the last check: enough to see a loss at once, cheap enough for every
/// restart.
pub fn check_touched(history: &mut History, reader: &mut dyn Reader) -> Vec<Violation> {
    for key in std::mem::take(&mut history.touched) {
        find(history, reader, &key, None);
    }
    totals(history, reader, None);
    history.touched.clear();
    history.take_violations()
}

/// Reads everything in every way there is and returns all that contradicts the history.
pub fn check(history: &mut History, reader: &mut dyn Reader, seed: u64) -> Vec<Violation> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let touched = std::mem::take(&mut history.touched);
    let all = walk(history, reader, Listing { limit: rng.usize(200..2_000), ..Listing::default() }, &mut rng);
    let listed = by_key(history, &all);
    order(history, reader, &all, &mut rng);
    topics(history, reader, &all, &mut rng);
    content(history, &listed);
    for key in &touched {
        find(history, reader, key, Some(&listed));
    }
    for _ in 0..FINDS_SAMPLED.min(all.len()) {
        find(history, reader, &all[rng.usize(..all.len())].key, Some(&listed));
    }
    totals(history, reader, Some(&all));
    for seen in &all {
        history.lives.entry(seen.key.clone()).or_default().settled = true;
    }
    history.listed = all.into_iter().map(|seen| seen.key).collect();
    history.touched.clear();
    history.take_violations()
}

/// All pages of a listing, one after the other; now and then keeps a cursor of the global one.
fn walk(
    history: &mut History,
    reader: &mut dyn Reader,
    mut listing: Listing,
    rng: &mut fastrand::Rng,
) -> Vec<Seen> {
    let keep = listing.topic.is_none() && !listing.descending && listing.cursor.is_none();
    let (mut all, mut cursors) = (Vec::new(), HashSet::new());
    loop {
        let page = match reader.list(&listing) {
            Ok(page) => page,
            Err(e) => {
                history.violate(Kind::Unreadable, format!("{listing:?} cannot be read: {e}"));
                return all;
            }
        };
        if page.items.len() > listing.limit {
            history.violate(Kind::Pages, format!("a page of {listing:?} has {} events", page.items.len()));
        }
        all.extend(page.items);
        let Some(cursor) = page.next_cursor else { return all };
        if !cursors.insert(cursor.clone()) {
            history.violate(Kind::Pages, format!("{listing:?} goes round in circles"));
            return all;
        }
        if keep && rng.u8(..) < 64 {
            if history.cursors.len() >= CURSORS_KEPT {
                history.cursors.swap_remove(rng.usize(..CURSORS_KEPT));
            }
            history.cursors.push((cursor.clone(), all.len()));
        }
        listing.cursor = Some(cursor);
    }
}

fn by_key(history: &mut History, all: &[Seen]) -> BTreeMap<Key, Seen> {
    let mut listed = BTreeMap::new();
    for seen in all {
        if listed.insert(seen.key.clone(), seen.clone()).is_some() {
            history.violate(Kind::Twice, format!("{} is listed twice", seen.key));
        }
    }
    listed
}

/// The order of the global listing: the same backwards, grown only at its end, and old cursors
/// still at their positions.
fn order(history: &mut History, reader: &mut dyn Reader, all: &[Seen], rng: &mut fastrand::Rng) {
    let listing = Listing { descending: true, limit: rng.usize(200..2_000), ..Listing::default() };
    let mut backwards = walk(history, reader, listing, rng);
    backwards.reverse();
    same(history, "the listing backwards", all, &backwards);
    let moved =
        history.listed.iter().enumerate().find(|(i, key)| all.get(*i).map(|seen| &seen.key) != Some(key));
    if let Some((i, key)) = moved {
        let sentence = format!("{key} was event {i} of the listing, and is not there any more");
        history.violate(Kind::Pages, sentence);
    }
    for (cursor, before) in history.cursors.clone() {
        let listing = Listing { cursor: Some(cursor), limit: rng.usize(200..2_000), ..Listing::default() };
        let rest = walk(history, reader, listing, rng);
        same(history, "what follows an old cursor", all.get(before..).unwrap_or_default(), &rest);
    }
}

/// Offsets, the listing of each topic, and the figures of each topic.
fn topics(history: &mut History, reader: &mut dyn Reader, all: &[Seen], rng: &mut fastrand::Rng) {
    let mut groups: BTreeMap<&str, Vec<Seen>> = BTreeMap::new();
    for seen in all {
        groups.entry(&seen.key.topic).or_default().push(seen.clone());
    }
    let mut expected = Vec::new();
    for (topic, events) in &groups {
        for (offset, seen) in (0..).zip(events) {
            if seen.offset != offset {
                let sentence = format!("{} has offset {} where {offset} is due", seen.key, seen.offset);
                history.violate(Kind::Hole, sentence);
                break;
            }
        }
        let listing =
            Listing { topic: Some((*topic).into()), limit: rng.usize(100..1_000), ..Listing::default() };
        let forwards = walk(history, reader, listing.clone(), rng);
        same(history, &format!("topic {topic:?}"), events, &forwards);
        let mut backwards = walk(history, reader, Listing { descending: true, ..listing }, rng);
        backwards.reverse();
        same(history, &format!("topic {topic:?} backwards"), events, &backwards);
        let unique = events.len() as u64;
        expected.push(TopicFigures { topic: (*topic).into(), unique, last_offset: unique - 1 });
    }
    let (mut figures, mut cursor) = (Vec::new(), None);
    loop {
        match reader.topics(cursor.as_deref()) {
            Ok(page) => {
                figures.extend(page.items);
                if page.next_cursor.is_none() || page.next_cursor == cursor {
                    break;
                }
                cursor = page.next_cursor;
            }
            Err(e) => return history.violate(Kind::Unreadable, format!("topics cannot be read: {e}")),
        }
    }
    if figures != expected {
        history.violate(Kind::Totals, format!("topics are {figures:?}, by their events {expected:?}"));
    }
}

/// Every listed event was sent as it is; everything answered or ever shown is listed.
fn content(history: &mut History, listed: &BTreeMap<Key, Seen>) {
    for (key, seen) in listed {
        let sent = history
            .lives
            .get(key)
            .map(|life| (life.attempted.is_empty(), life.attempted.contains(&seen.digest)));
        match sent {
            Some((false, true)) => {}
            Some((false, false)) => {
                history.violate(Kind::Changed, format!("{key} has a payload that nobody sent"));
            }
            _ => history.violate(Kind::NeverAttempted, format!("{key} is stored, but nobody sent it")),
        }
        history.show(seen);
    }
    let mut found = Vec::new();
    for (key, life) in &history.lives {
        if life.answered() && life.stored + life.unknown == 0 {
            let sentence = format!("{key} was answered as known before anyone could have stored it");
            found.push((Kind::Answer, sentence));
        }
        if listed.contains_key(key) {
            continue;
        }
        if life.answered() {
            found.push((Kind::Lost, format!("{key} was answered ({life:?}) and is not listed")));
        } else if life.shown {
            found.push((Kind::Vanished, format!("{key} was shown once ({life:?}) and is not listed")));
        }
    }
    for (kind, sentence) in found {
        history.violate(kind, sentence);
    }
}

/// Looks one id up; with `listed`, the listing and the look-up must agree.
fn find(history: &mut History, reader: &mut dyn Reader, key: &Key, listed: Option<&BTreeMap<Key, Seen>>) {
    let found = match reader.find(key) {
        Ok(found) => found,
        Err(e) => return history.violate(Kind::Unreadable, format!("{key} cannot be looked up: {e}")),
    };
    if let Some(listed) = listed {
        let expected = listed.get(key);
        if found.as_ref() != expected {
            let sentence = format!("{key} is listed as {expected:?} and looked up as {found:?}");
            history.violate(if found.is_none() { Kind::Lost } else { Kind::Changed }, sentence);
        }
        return;
    }
    let Some(life) = history.lives.get(key).cloned() else { return };
    match found {
        None if life.answered() => {
            history.violate(Kind::Lost, format!("{key} was answered ({life:?}) and is not found"));
        }
        None if life.shown => {
            history.violate(Kind::Vanished, format!("{key} was shown once ({life:?}) and is not found"));
        }
        None => {}
        Some(seen) if life.attempted.contains(&seen.digest) => {
            history.show(&seen);
            history.lives.entry(key.clone()).or_default().settled = true;
        }
        Some(_) => {
            let kind = if life.attempted.is_empty() { Kind::NeverAttempted } else { Kind::Changed };
            history.violate(kind, format!("{key} is found with content that nobody sent"));
        }
    }
}

fn totals(history: &mut History, reader: &mut dyn Reader, all: Option<&[Seen]>) {
    let totals = match reader.totals() {
        Ok(totals) => totals,
        Err(e) => return history.violate(Kind::Unreadable, format!("totals cannot be read: {e}")),
    };
    if totals.received > history.received_max() {
        let most = history.received_max();
        history.violate(
            Kind::Totals,
            format!("{} events were received, but at most {most} sent", totals.received),
        );
    }
    if let Some(all) = all {
        if totals.unique != all.len() as u64 {
            let sentence = format!("{} events are counted, {} are listed", totals.unique, all.len());
            history.violate(Kind::Totals, sentence);
        }
        let mut topics: Vec<_> = all.iter().map(|seen| seen.key.topic.clone()).collect();
        topics.sort();
        topics.dedup();
        if topics != totals.topics {
            history.violate(Kind::Totals, format!("topics are {topics:?}, stats say {:?}", totals.topics));
        }
    }
    history.show_totals(totals);
}

fn same(history: &mut History, what: &str, expected: &[Seen], found: &[Seen]) {
    if expected == found {
        return;
    }
    let at = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    let sentence = format!(
        "{what} has {} events where {} are due; at position {at} there is {:?} where {:?} is due",
        found.len(),
        expected.len(),
        found.get(at),
        expected.get(at)
    );
    history.violate(Kind::Pages, sentence);
}

/// Fails the test if there is any violation, naming the seed.
///
/// # Panics
/// If there is any.
pub fn expect_clean(violations: &[Violation], seed: u64, when: &str, log: &str) {
    if violations.is_empty() {
        return;
    }
    let shown: Vec<_> =
        violations.iter().take(20).map(|v| format!("  {:?}: {}", v.kind, v.sentence)).collect();
    panic!(
        "{} violations {when} (SEKALI_SEED={seed}):\n{}\nserver:\n{log}",
        violations.len(),
        shown.join("\n")
    );
}
