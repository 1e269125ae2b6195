//! Refusals of whoever may not have what they ask for.

use hyper::StatusCode;
use hyper::header::{HeaderValue, WWW_AUTHENTICATE};

use crate::auth::Permission;
use crate::auth::authenticator::Denied;
use crate::http::wire::problem::Problem;

/// The answer to a request that is not let in. It tells a slip in the token from one that is not
/// good, and nothing else.
pub(crate) fn unauthorized(denied: Denied) -> Problem {
    let message = match denied {
        Denied::Missing => "this needs a token: send it as Authorization: Bearer sekali_…".to_owned(),
        Denied::NoToken(why) => why.to_string(),
        _ => "the token is not valid: ask whoever runs this service for another one".to_owned(),
    };
    let challenge = match denied {
        Denied::Missing => "Bearer realm=\"sekali\"",
        _ => "Bearer realm=\"sekali\", error=\"invalid_token\"",
    };
    let problem = Problem::new(StatusCode::UNAUTHORIZED, message);
    problem.with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

/// The answer to a request whose token ended while it was under way.
pub(crate) fn ended() -> Problem {
    unauthorized(Denied::Revoked)
}

/// The answer to a caller without a permission.
pub(crate) fn forbidden(needed: Permission) -> Problem {
    let message = match needed {
        Permission::Metrics | Permission::Admin => {
            format!("the token does not allow this: it needs the scope {}", needed.scope())
        }
        _ => format!("the token does not allow this: it needs a scope {}:TOPICS that fits", needed.scope()),
    };
    Problem::new(StatusCode::FORBIDDEN, message)
}
