//! What a request may do.

use std::sync::Arc;

use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

use super::scope::Scope;
use super::tokens_file::{Certificate, Entry};
use crate::event::pattern::{TopicPattern, TopicPatterns};
use crate::quota::QuotaKey;

/// What a caller may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Publish events.
    Publish,
    /// Read events, and the names and counts of topics.
    Read,
    /// Read as a consumer, and acknowledge.
    Consume,
    /// Read the metrics of the service.
    Metrics,
    /// Change what others depend on.
    Admin,
}

impl Permission {
    /// The scope that gives it.
    pub fn scope(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Read => "read",
            Self::Consume => "consume",
            Self::Metrics => "metrics",
            Self::Admin => "admin",
        }
    }
}

/// Whoever sends a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// `None` for somebody who may do everything, as no token is asked for.
    grant: Option<Arc<Grant>>,
}

impl Caller {
    /// Somebody who need not say who they are. They may do everything.
    pub fn anyone() -> Self {
        Self { grant: None }
    }

    /// Somebody who may do what a grant says.
    pub(super) fn granted(grant: Arc<Grant>) -> Self {
        Self { grant: Some(grant) }
    }

    /// Whether the caller may do what needs `permission`, for some topic at least.
    pub fn may(&self, permission: Permission) -> bool {
        self.grant.as_ref().is_none_or(|grant| match permission {
            Permission::Publish => !grant.publish.is_none(),
            Permission::Read => !grant.read.is_none(),
            Permission::Consume => !grant.consume.is_none(),
            Permission::Metrics => grant.has_metrics,
            Permission::Admin => grant.is_admin,
        })
    }

    /// Whether each event may be published, whatever its topic and source.
    pub fn may_publish_all(&self) -> bool {
        self.grant.as_ref().is_none_or(|grant| grant.publish.is_all() && grant.sources.is_empty())
    }

    /// Whether events of this topic may be published.
    pub fn may_publish(&self, topic: &[u8]) -> bool {
        self.grant.as_ref().is_none_or(|grant| grant.publish.matches(topic))
    }

    /// Whether events may be published that name this source.
    pub fn may_name(&self, source: &[u8]) -> bool {
        self.grant.as_ref().is_none_or(|grant| {
            grant.sources.is_empty() || grant.sources.iter().any(|own| own.as_bytes() == source)
        })
    }

    /// Whether this topic may be read.
    pub fn may_read(&self, topic: &[u8]) -> bool {
        self.grant.as_ref().is_none_or(|grant| grant.read.matches(topic))
    }

    /// Whether consumers of these topics may be used: each must be allowed that they can read.
    pub fn may_consume(&self, topics: &TopicPatterns) -> bool {
        self.grant.as_ref().is_none_or(|grant| topics.iter().all(|pattern| grant.consume.covers(pattern)))
    }

    /// Whether figures of consumers of these topics may be read: by whoever may use them, or may
    /// read all that they can.
    pub fn may_measure(&self, topics: &TopicPatterns) -> bool {
        let covers = |allowed: &TopicPatterns| topics.iter().all(|pattern| allowed.covers(pattern));
        self.grant.as_ref().is_none_or(|grant| covers(&grant.consume) || covers(&grant.read))
    }

    /// The topics that may be read; `None` if all may.
    pub fn readable(&self) -> Option<Arc<TopicPatterns>> {
        let grant = self.grant.as_ref().filter(|grant| !grant.read.is_all())?;
        Some(Arc::clone(&grant.read))
    }

    /// The id of the caller's token or the name of its certificate, for the log; empty for anyone.
    pub fn id(&self) -> &str {
        self.grant.as_ref().map_or("", |grant| &grant.id)
    }

    /// Whom what the caller takes is counted for, if that is not its address.
    pub fn quota_key(&self) -> Option<QuotaKey> {
        self.grant.as_ref().map(|grant| QuotaKey::Grant(grant.number))
    }

    /// Whether it can come to [`Caller::has_ended`]: it can't for whoever need show nothing.
    pub fn may_end(&self) -> bool {
        self.grant.is_some()
    }

    /// Whether the caller's token or certificate was revoked, changed or has expired meanwhile.
    pub fn has_ended(&self) -> bool {
        self.grant.as_ref().is_some_and(|grant| *grant.ended.borrow())
    }

    /// Waits until [`Caller::has_ended`]; for ever, if that may not happen.
    pub async fn ended(&self) {
        match &self.grant {
            // The sender lives as long as the grant.
            Some(grant) => _ = grant.ended.subscribe().wait_for(|ended| *ended).await,
            None => std::future::pending().await,
        }
    }
}

/// What a token or a certificate allows.
#[derive(Debug)]
pub(super) struct Grant {
    id: Box<str>,
    /// What the tokens file says of it, for the log.
    terms: Box<str>,
    /// Stands for the id, and hardly ever for another.
    number: u64,
    publish: TopicPatterns,
    read: Arc<TopicPatterns>,
    consume: TopicPatterns,
    has_metrics: bool,
    is_admin: bool,
    /// Sources that it may name; any, if there is none.
    sources: Vec<Box<str>>,
    ended: watch::Sender<bool>,
}

impl Grant {
    /// What a token allows.
    pub(super) fn of_token(entry: &Entry) -> Self {
        Self { terms: entry.terms().into(), ..Self::new(&entry.id, &entry.allow, &entry.source) }
    }

    /// What a certificate allows.
    pub(super) fn of_certificate(certificate: &Certificate) -> Self {
        let terms = certificate.terms().into();
        Self { terms, ..Self::new(&certificate.name, &certificate.allow, &certificate.source) }
    }

    fn new(id: &str, scopes: &[Scope], sources: &[String]) -> Self {
        let is_admin = scopes.contains(&Scope::Admin);
        let all = is_admin.then(TopicPattern::all);
        let patterns = |of: fn(&Scope) -> Option<&TopicPattern>| {
            scopes.iter().filter_map(of).cloned().chain(all.clone()).collect()
        };
        Self {
            id: id.into(),
            terms: Box::default(),
            number: xxh3_64(id.as_bytes()),
            publish: patterns(|scope| if let Scope::Publish(topics) = scope { Some(topics) } else { None }),
            read: Arc::new(patterns(
                |scope| if let Scope::Read(topics) = scope { Some(topics) } else { None },
            )),
            consume: patterns(|scope| if let Scope::Consume(topics) = scope { Some(topics) } else { None }),
            has_metrics: is_admin || scopes.contains(&Scope::Metrics),
            is_admin,
            sources: sources.iter().map(|source| source.as_str().into()).collect(),
            ended: watch::Sender::new(false),
        }
    }

    /// The id of the token or the name of the certificate.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// What the tokens file says of it.
    pub(super) fn terms(&self) -> &str {
        &self.terms
    }

    /// Ends whatever goes on with it.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(scopes: &[&str], sources: &[&str]) -> Caller {
        let scopes: Vec<Scope> = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
        let sources: Vec<String> = sources.iter().map(|&source| source.to_owned()).collect();
        Caller::granted(Arc::new(Grant::new("id", &scopes, &sources)))
    }

    const ALL: [Permission; 5] =
        [Permission::Publish, Permission::Read, Permission::Consume, Permission::Metrics, Permission::Admin];

    #[test]
    fn anyone_and_admins_may_do_everything() {
        for caller in [Caller::anyone(), caller(&["admin"], &[])] {
            assert!(ALL.into_iter().all(|permission| caller.may(permission)));
            assert!(caller.may_publish_all() && caller.may_read(b"any") && caller.readable().is_none());
        }
    }

    #[test]
    fn a_scope_gives_what_it_says_and_nothing_else() {
        for (scope, given) in [
            ("publish:a*", Permission::Publish),
            ("read:a*", Permission::Read),
            ("consume:a*", Permission::Consume),
            ("metrics", Permission::Metrics),
        ] {
            let caller = caller(&[scope], &[]);
            assert!(ALL.into_iter().all(|permission| caller.may(permission) == (permission == given)));
            assert_eq!(caller.may_publish(b"ab"), given == Permission::Publish);
            assert_eq!(caller.may_read(b"ab"), given == Permission::Read);
            assert!(!caller.may_publish(b"b") && !caller.may_read(b"b") && !caller.may_publish_all());
        }
        assert!(ALL.into_iter().all(|permission| !caller(&[], &[]).may(permission)));
    }

    #[test]
    fn a_consumer_is_for_those_who_may_consume_each_topic_that_it_can_read() {
        let caller = caller(&["consume:orders.*", "consume:users"], &[]);
        let may = |patterns: &[&str]| {
            caller.may_consume(&patterns.iter().map(|text| text.parse::<TopicPattern>().unwrap()).collect())
        };
        assert!(may(&["orders.eu.*", "users"]) && may(&["orders.eu"]));
        assert!(!may(&["orders*"]) && !may(&["orders.eu", "people"]) && !may(&["*"]));
    }

    #[test]
    fn a_token_with_sources_names_no_other() {
        let caller = caller(&["publish:*"], &["checkout"]);
        assert!(caller.may_name(b"checkout") && !caller.may_name(b"billing") && !caller.may_name(b""));
        assert!(!caller.may_publish_all());
    }
}
