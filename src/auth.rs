//! Who asks, and what they may do. Knows no HTTP.
//!
//! Whoever reaches the service may do everything: there are no tokens yet. A caller is known before
//! a request is handled all the same, and each route names the permission that it needs.

/// What a caller may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Publish events.
    Publish,
    /// Read events, and the names and counts of topics.
    Read,
    /// Read the metrics of the service.
    Metrics,
}

/// Whoever sends a request.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    permissions: &'static [Permission],
}

impl Caller {
    /// Somebody who has not said who they are. They may do everything.
    pub const fn anyone() -> Self {
        Self { permissions: &[Permission::Publish, Permission::Read, Permission::Metrics] }
    }

    /// Somebody who may do nothing.
    #[cfg(test)]
    pub const fn nobody() -> Self {
        Self { permissions: &[] }
    }

    /// Whether the caller may do what needs `permission`.
    pub fn may(self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anyone_may_do_everything_and_a_reader_may_not_publish() {
        let all = [Permission::Publish, Permission::Read, Permission::Metrics];
        assert!(all.into_iter().all(|permission| Caller::anyone().may(permission)));
        let reader = Caller { permissions: &[Permission::Read] };
        assert!(reader.may(Permission::Read));
        assert!(!reader.may(Permission::Publish) && !reader.may(Permission::Metrics));
    }
}
