//! Who a request comes from.
//!
//! The grants of one reading of the tokens file are never changed, but exchanged as a whole by the
//! next one. What is the same in both stays, so that whoever uses it goes on undisturbed; what is
//! not ends, and with it all that its callers have under way.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::caller::{Caller, Grant};
use super::token::{self, NoToken};
use super::tokens_file::{Certificate, Entry, TokensFile};
use crate::clock::{Clock, Timestamp};
use crate::sync::RwLock;

/// Why a request is not let in. What a client is told is less: the difference between these would
/// help whoever guesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It shows neither a token nor a certificate that is known.
    #[error("no token was shown")]
    Missing,
    /// What it shows is no token.
    #[error(transparent)]
    NoToken(NoToken),
    /// No token with this id was ever made, or its entry was removed.
    #[error("the token is unknown")]
    Unknown,
    /// There is a token with this id, and its secret is another one.
    #[error("the token's secret is wrong")]
    Wrong,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It was revoked.
    #[error("the token was revoked")]
    Revoked,
}

/// How a token or a certificate differs between two readings of the tokens file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The id of the token, or the name of the certificate.
    pub id: String,
    /// What the file said of it; empty if it was not there.
    pub before: String,
    /// What the file says of it; empty if it is gone.
    pub after: String,
}

impl Denied {
    /// The reason as a word for metrics and for the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::NoToken(_) => "malformed",
            Self::Unknown => "unknown",
            Self::Wrong => "wrong",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// Knows all tokens.
#[derive(Debug)]
pub struct Authenticator {
    clock: Arc<dyn Clock>,
    /// `None` as long as nobody need show anything.
    current: RwLock<Option<Arc<CurrentTokens>>>,
}

/// What one reading of the tokens file gave.
#[derive(Debug)]
struct CurrentTokens {
    tokens: HashMap<String, (Entry, Arc<Grant>)>,
    certificates: Vec<(Certificate, Arc<Grant>)>,
}

impl Authenticator {
    /// Lets everybody in until the first [`Authenticator::replace`].
    pub fn open(clock: Arc<dyn Clock>) -> Self {
        Self { clock, current: RwLock::new(None) }
    }

    /// Lets in whom the file knows.
    pub fn new(clock: Arc<dyn Clock>, file: TokensFile) -> Self {
        let authenticator = Self::open(clock);
        authenticator.replace(file);
        authenticator
    }

    /// Whether everybody is let in.
    pub fn is_open(&self) -> bool {
        self.current.read().is_none()
    }

    /// Who shows this token, or a certificate with these names. A token is what counts if there are
    /// both.
    ///
    /// # Errors
    /// Why the request is not let in.
    pub fn authenticate(&self, token: Option<&str>, names: &[String]) -> Result<Caller, Denied> {
        let current = self.current.read();
        let Some(current) = &*current else { return Ok(Caller::anyone()) };
        let Some(text) = token else {
            let named = current
                .certificates
                .iter()
                .find(|(entry, _)| entry.san.iter().any(|san| names.contains(san)));
            return named.map(|(_, grant)| Caller::granted(Arc::clone(grant))).ok_or(Denied::Missing);
        };
        let id = token::parse(text).map_err(Denied::NoToken)?;
        let (entry, grant) = current.tokens.get(id).ok_or(Denied::Unknown)?;
        if token::digest_of(text) != entry.sha256 {
            return Err(Denied::Wrong);
        }
        if entry.revoked.is_some() {
            return Err(Denied::Revoked);
        }
        if is_over(entry, self.clock.now()) {
            return Err(Denied::Expired);
        }
        Ok(Caller::granted(Arc::clone(grant)))
    }

    /// Knows from here on what this file has. Whatever goes on with what it no longer has in the
    /// same form ends. Returns what has changed, sorted by id.
    pub fn replace(&self, file: TokensFile) -> Vec<Change> {
        let mut current = self.current.write();
        let old = current.take();
        let kept_token = |entry: &Entry| {
            let (same, grant) = old.as_ref()?.tokens.get(&entry.id)?;
            (same == entry).then(|| Arc::clone(grant))
        };
        let kept_certificate = |certificate: &Certificate| {
            let same = old.as_ref()?.certificates.iter().find(|(same, _)| same == certificate)?;
            Some(Arc::clone(&same.1))
        };
        let tokens = file.tokens.into_iter().map(|entry| {
            let grant = kept_token(&entry).unwrap_or_else(|| Arc::new(Grant::of_token(&entry)));
            (entry.id.clone(), (entry, grant))
        });
        let certificates = file.certificates.into_iter().map(|certificate| {
            let grant = kept_certificate(&certificate)
                .unwrap_or_else(|| Arc::new(Grant::of_certificate(&certificate)));
            (certificate, grant)
        });
        let new = CurrentTokens { tokens: tokens.collect(), certificates: certificates.collect() };
        let changes = changes(old.as_deref(), &new);
        *current = Some(Arc::new(new));
        changes
    }

    /// Ends what goes on with tokens whose time is over; to be called twice a second.
    pub fn expire(&self) {
        let Some(current) = self.current.read().clone() else { return };
        let now = self.clock.now();
        current.tokens.values().filter(|(entry, _)| is_over(entry, now)).for_each(|(_, grant)| grant.end());
    }
}

/// What has changed between two readings. What goes on with the old one's ends.
fn changes(old: Option<&CurrentTokens>, new: &CurrentTokens) -> Vec<Change> {
    let addresses = |current: &CurrentTokens| current.grants().map(Arc::as_ptr).collect::<HashSet<_>>();
    let (before, after) = (old.map(addresses).unwrap_or_default(), addresses(new));
    let mut changes = BTreeMap::<&str, Change>::new();
    for grant in old.iter().flat_map(|old| old.grants()).filter(|grant| !after.contains(&Arc::as_ptr(grant)))
    {
        grant.end();
        changes.entry(grant.id()).or_default().before = grant.terms().to_owned();
    }
    for grant in new.grants().filter(|grant| !before.contains(&Arc::as_ptr(grant))) {
        changes.entry(grant.id()).or_default().after = grant.terms().to_owned();
    }
    changes.into_iter().map(|(id, change)| Change { id: id.to_owned(), ..change }).collect()
}

impl CurrentTokens {
    fn grants(&self) -> impl Iterator<Item = &Arc<Grant>> {
        let tokens = self.tokens.values().map(|(_, grant)| grant);
        tokens.chain(self.certificates.iter().map(|(_, grant)| grant))
    }
}

fn is_over(entry: &Entry, now: Timestamp) -> bool {
    entry.expires.is_some_and(|expires| expires <= now)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::caller::Permission;
    use super::super::token::Token;
    use super::*;
    use crate::clock::ManualClock;

    fn made(name: &str, clock: &ManualClock) -> (Token, Entry) {
        let token = Token::generate().unwrap();
        let entry = Entry::new(&token, name, vec!["read:*".parse().unwrap()], clock.now());
        (token, entry)
    }

    fn file(tokens: &[&Entry]) -> TokensFile {
        TokensFile { tokens: tokens.iter().copied().cloned().collect(), ..TokensFile::default() }
    }

    #[test]
    fn everybody_is_let_in_until_there_is_a_file_and_never_again() {
        let clock = Arc::new(ManualClock::default());
        let authenticator = Authenticator::open(clock);
        assert!(authenticator.authenticate(None, &[]).unwrap().may(Permission::Admin));
        authenticator.replace(TokensFile::default());
        assert_eq!(authenticator.authenticate(None, &[]).unwrap_err(), Denied::Missing);
    }

    #[test]
    fn each_reason_is_told_apart() {
        let clock = Arc::new(ManualClock::new(Timestamp(1_000_000)));
        let ((good, entry), (other, _)) = (made("good", &clock), made("unknown", &clock));
        let (over, mut expired) = made("expired", &clock);
        expired.expires = Some(Timestamp(1_000_000));
        let (gone, mut revoked) = made("revoked", &clock);
        revoked.revoked = Some(Timestamp(1));
        let (forged, mut same_id) = made("same id", &clock);
        same_id.sha256 = other.digest();
        let file = file(&[&entry, &expired, &revoked, &same_id]);
        let authenticator = Authenticator::new(clock, file);
        let reason = |token: &str| authenticator.authenticate(Some(token), &[]).unwrap_err();
        assert_eq!(authenticator.authenticate(Some(good.reveal()), &[]).unwrap().id(), good.id());
        assert_eq!(reason(other.reveal()), Denied::Unknown);
        assert_eq!(reason(over.reveal()), Denied::Expired);
        assert_eq!(reason(gone.reveal()), Denied::Revoked);
        assert_eq!(reason(forged.reveal()), Denied::Wrong);
        assert_eq!(reason("Bearer"), Denied::NoToken(NoToken::Form));
        assert_eq!(authenticator.authenticate(None, &[]).unwrap_err(), Denied::Missing);
    }

    #[test]
    fn what_is_revoked_changed_removed_or_over_ends_and_the_rest_goes_on() {
        let clock = Arc::new(ManualClock::default());
        let all: Vec<_> =
            ["stays", "revoked", "changed", "removed", "over"].map(|name| made(name, &clock)).into();
        let mut entries: Vec<Entry> = all.iter().map(|(_, entry)| entry.clone()).collect();
        entries[4].expires = Some(Timestamp(2_000_000));
        let authenticator =
            Authenticator::new(Arc::clone(&clock) as _, file(&entries.iter().collect::<Vec<_>>()));
        let callers: Vec<_> = all
            .iter()
            .map(|(token, _)| authenticator.authenticate(Some(token.reveal()), &[]).unwrap())
            .collect();
        let ended = || callers.iter().map(Caller::has_ended).collect::<Vec<_>>();
        entries[1].revoked = Some(Timestamp(1));
        entries[2].allow = vec!["read:other".parse().unwrap()];
        entries.remove(3);
        let told = authenticator.replace(file(&entries.iter().collect::<Vec<_>>()));
        assert_eq!(ended(), [false, true, true, true, false]);
        let change = |at: usize, after: &str| {
            let (token, Entry { name, .. }) = &all[at];
            let before = format!("{name}: read:*");
            Change { id: token.id().to_owned(), before, after: after.to_owned() }
        };
        let mut expected = vec![
            change(1, "revoked: read:*, revoked 1970-01-01T00:00:00.000001Z"),
            change(2, "changed: read:other"),
            change(3, ""),
        ];
        expected.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        assert_eq!(told, expected);
        clock.advance(Duration::from_secs(2));
        authenticator.expire();
        assert_eq!(ended(), [false, true, true, true, true]);
    }

    #[test]
    fn a_certificate_is_known_by_one_of_its_names_and_a_token_goes_before_it() {
        let clock = Arc::new(ManualClock::default());
        let (token, entry) = made("token", &clock);
        let certificate = Certificate {
            name: "worker".to_owned(),
            san: vec!["uri:spiffe://example.org/worker".to_owned()],
            allow: vec!["consume:*".parse().unwrap()],
            source: Vec::new(),
        };
        let file = TokensFile { certificates: vec![certificate], ..file(&[&entry]) };
        let authenticator = Authenticator::new(clock, file);
        let names = ["dns:worker".to_owned(), "uri:spiffe://example.org/worker".to_owned()];
        let by_name = authenticator.authenticate(None, &names).unwrap();
        assert_eq!((by_name.id(), by_name.may(Permission::Consume)), ("worker", true));
        assert_eq!(authenticator.authenticate(None, &names[..1]).unwrap_err(), Denied::Missing);
        let by_both = authenticator.authenticate(Some(token.reveal()), &names).unwrap();
        assert!(by_both.may(Permission::Read) && !by_both.may(Permission::Consume));
        assert!(authenticator.authenticate(Some("sekali_"), &names).is_err());
    }
}
