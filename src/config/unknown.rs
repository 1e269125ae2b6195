//! Environment variables that look like settings and are none.

/// Variables that are known beside the settings.
const OTHERS: [&str; 7] = [
    "SEKALI_CONFIG",
    "SEKALI_URL",
    "SEKALI_TOKEN",
    "SEKALI_TOKEN_FILE",
    "SEKALI_CA_FILE",
    "SEKALI_CLIENT_CERT",
    "SEKALI_CLIENT_KEY",
];
/// How alike two names are, from 0 to 1, of which one was meant for the other.
const ALIKE: f64 = 0.85;

/// A sentence for each variable that begins with `SEKALI_`, has a value, and is neither one of
/// `settings` nor another that is known.
///
/// Kubernetes makes variables for every service, also for one of that name: they are left alone.
pub(super) fn sentences<'v>(
    variables: impl IntoIterator<Item = (&'v str, &'v str)>,
    settings: impl Iterator<Item = String>,
) -> Vec<String> {
    let known: Vec<String> = settings.chain(OTHERS.map(str::to_owned)).collect();
    let unknown = variables.into_iter().filter(|(name, value)| {
        name.starts_with("SEKALI_")
            && !value.is_empty()
            && !known.iter().any(|known| known == name)
            && !is_of_kubernetes(name, value)
    });
    let mut sentences: Vec<String> = unknown.map(|(name, _)| sentence(name, &known)).collect();
    sentences.sort();
    sentences
}

fn sentence(name: &str, known: &[String]) -> String {
    let likeness =
        |known: &&String| strsim::jaro_winkler(&name["SEKALI_".len()..], &known["SEKALI_".len()..]);
    let nearest = known.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    match nearest.filter(|known| likeness(known) >= ALIKE) {
        Some(meant) => format!("{name} is no setting and has no effect: is {meant} meant?"),
        None => format!("{name} is no setting and has no effect; `sekali config` prints all settings"),
    }
}

/// Whether Kubernetes (or Docker's links) makes such a variable: of a service `sekali` as well as
/// of `sekali-anything`.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // SEKALI_PORT_8080_TCP, SEKALI_PORT_8080_TCP_ADDR.
    let is_port = name.match_indices("_PORT_").any(|(at, found)| {
        let mut parts = name[at + found.len()..].split('_');
        parts.next().is_some_and(digits) && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
    });
    let has_scheme = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    is_port
        || name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && has_scheme)
}

#[cfg(test)]
mod tests {
    use crate::config::unknown_variables;

    #[test]
    fn a_variable_that_nobody_knows_is_named_and_what_was_meant() {
        let told = |name: &str| unknown_variables([(name, "1")]).concat();
        for (name, meant) in [
            ("SEKALI_WORKER", "SEKALI_WORKERS"),
            ("SEKALI_LISTNE", "SEKALI_LISTEN"),
            ("SEKALI_BODY_MAX_BYTES", "SEKALI_BODY_BYTES_MAX"),
            ("SEKALI_DATADIR", "SEKALI_DATA_DIR"),
        ] {
            assert_eq!(told(name), format!("{name} is no setting and has no effect: is {meant} meant?"));
        }
        assert!(told("SEKALI_COLOUR").starts_with("SEKALI_COLOUR is no setting"));
        for name in ["SEKALI_WORKERS", "SEKALI_URL", "SEKALI_CONFIG", "OTHER", "SEKALI"] {
            assert_eq!(told(name), "", "{name}");
        }
        assert!(unknown_variables([("SEKALI_COLOUR", "")]).is_empty(), "empty counts as absent");
    }

    #[test]
    fn what_kubernetes_makes_is_left_alone() {
        for name in [
            "SEKALI_SERVICE_HOST",
            "SEKALI_SERVICE_PORT",
            "SEKALI_SERVICE_PORT_HTTP",
            "SEKALI_PORT_8080_TCP",
            "SEKALI_PORT_8080_TCP_PROTO",
            "SEKALI_PORT_8080_TCP_PORT",
            "SEKALI_PORT_8080_TCP_ADDR",
            "SEKALI_HEADLESS_SERVICE_HOST",
            "SEKALI_HEADLESS_PORT_53_UDP_ADDR",
        ] {
            assert_eq!(unknown_variables([(name, "8080")]), Vec::<String>::new(), "{name}");
        }
        assert!(unknown_variables([("SEKALI_PORT", "tcp://10.0.0.1:8080")]).is_empty());
        assert_eq!(unknown_variables([("SEKALI_PORT", "9000")]).len(), 1, "somebody means the port");
    }
}
