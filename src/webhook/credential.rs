//! Which headers hold credentials, by their names. They are not kept, and no event is made of them.

/// Names, in lower case.
const NAMES: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "set-cookie"];
/// What other names end with. Not every key is one: Bitbucket's `X-Event-Key` is the kind of an
/// event.
const ENDS: [&str; 5] = ["-token", "-secret", "api-key", "access-key", "secret-key"];

/// Whether the header of this name, in lower case, holds one. The id of a delivery is none, even if
/// it is called a token.
pub(super) fn is_credential(name: &str) -> bool {
    let is_id = name.contains("idempotency");
    NAMES.contains(&name) || !is_id && ENDS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_told_from_ids_and_kinds_by_their_names() {
        for name in [
            "authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
            "x-api-key",
            "api-key",
            "x-auth-token",
            "x-gitlab-token",
            "x-shopify-access-token",
            "x-shared-secret",
        ] {
            assert!(is_credential(name), "{name}");
        }
        for name in
            ["idempotency-key", "i-twilio-idempotency-token", "x-event-key", "x-github-event", "x-secretary"]
        {
            assert!(!is_credential(name), "{name}");
        }
    }
}
