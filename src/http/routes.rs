//! The table of routes: what is where, who may ask for it, and who answers.
//!
//! A new route is a row here, its handler, and an entry in `openapi.json`. A path with several
//! methods has a row for each.

use std::future::ready;

use hyper::{Method, StatusCode};

use crate::auth::{Caller, Permission};
use crate::http::openapi;
use crate::http::page::files;
use crate::http::service::{Call, Service};
use crate::http::wire::answer::{Answer, json};
use crate::http::wire::connection::Door;
use crate::http::wire::denial::forbidden;
use crate::http::wire::problem::Problem;
use crate::metrics::{ROUTES_MAX, RouteLabel};
use crate::store::EventStore;

/// One row of the table.
#[derive(Debug)]
pub(super) struct Route {
    /// The method; a route for GET answers HEAD too.
    pub(super) method: Method,
    /// The path. A segment in braces stands for any other.
    pub(super) path: &'static str,
    /// What metrics and the log call the route.
    pub(super) name: &'static str,
    /// What a caller needs to be allowed to do.
    pub(super) permission: Option<Permission>,
    /// Whether it is served to connections with a reserved permit: it tells how the service is.
    pub(super) is_vital: bool,
    handler: Handler,
}

/// Defines the rows, and the method of the service that calls their handlers.
macro_rules! routes {
    (|$service:ident, $call:ident| $($handler:ident:
        $method:ident $path:literal as $name:literal, $permission:expr, $is_vital:expr => $answer:expr;)+) => {
        #[derive(Clone, Copy, Debug)]
        enum Handler {
            $($handler),+
        }

        /// All routes.
        pub(super) static ROUTES: [Route; [$(Handler::$handler),+].len()] = [$(Route {
            method: Method::$method,
            path: $path,
            name: $name,
            permission: $permission,
            is_vital: $is_vital,
            handler: Handler::$handler,
        }),+];

        impl<S: EventStore> Service<S> {
            /// Has the handler of a route answer.
            pub(super) async fn handle(&self, route: &Route, call: Call<'_>) -> Result<Answer, Problem> {
                let ($service, $call) = (self, call);
                match route.handler {
                    $(Handler::$handler => $answer.await),+
                }
            }
        }
    };
}

const ANYONE: Option<Permission> = None;
const PUBLISH: Option<Permission> = Some(Permission::Publish);
const READ: Option<Permission> = Some(Permission::Read);
const CONSUME: Option<Permission> = Some(Permission::Consume);
const METRICS: Option<Permission> = Some(Permission::Metrics);
const VITAL: bool = true;
const ORDINARY: bool = false;

// Boxed is what is larger than a publish: every request has the size of the largest handler.
routes! { |service, call|
    Root: GET "/" as "/", ANYONE, ORDINARY => ready(service.root(&call));
    Publish: POST "/publish" as "/publish", PUBLISH, ORDINARY => service.publish(call);
    Events: GET "/events" as "/events", READ, ORDINARY => Box::pin(service.events(call));
    Event: GET "/events/{topic}/{event_id}" as "/events/{topic}/{event_id}", READ, ORDINARY => service.event(call);
    Stats: GET "/stats" as "/stats", READ, ORDINARY => Box::pin(service.stats(call));
    Topics: GET "/topics" as "/topics", READ, ORDINARY => Box::pin(service.topics(call));
    Duplicates: GET "/duplicates" as "/duplicates", READ, ORDINARY => ready(service.duplicates(&call));
    Consumers: GET "/consumers" as "/consumers", CONSUME, ORDINARY => Box::pin(service.consumers(call));
    Consumer: GET "/consumers/{name}" as "/consumers/{name}", CONSUME, ORDINARY => Box::pin(service.consumer(call));
    PutConsumer: PUT "/consumers/{name}" as "/consumers/{name}", CONSUME, ORDINARY => Box::pin(service.put_consumer(call));
    DeleteConsumer: DELETE "/consumers/{name}" as "/consumers/{name}", CONSUME, ORDINARY
        => Box::pin(service.delete_consumer(call));
    Consume: GET "/consumers/{name}/events" as "/consumers/{name}/events", CONSUME, ORDINARY
        => Box::pin(service.consume(call));
    Acknowledge: POST "/consumers/{name}/ack" as "/consumers/{name}/ack", CONSUME, ORDINARY
        => Box::pin(service.acknowledge(call));
    Seek: POST "/consumers/{name}/seek" as "/consumers/{name}/seek", CONSUME, ORDINARY
        => Box::pin(service.seek(call));
    Healthz: GET "/healthz" as "/healthz", ANYONE, VITAL
        => ready(Ok(json(StatusCode::OK, br#"{"status":"ok"}"#.to_vec())));
    Readyz: GET "/readyz" as "/readyz", ANYONE, VITAL => ready(service.ready());
    Health: GET "/health" as "/readyz", ANYONE, VITAL => ready(service.ready());
    Metrics: GET "/metrics" as "/metrics", METRICS, VITAL => service.figures(call);
    Live: GET "/live" as "/live", METRICS, ORDINARY => Box::pin(service.watch_live(call));
    Page: GET "/page/{file}" as "/page", ANYONE, ORDINARY
        => ready(files::at(call.head.uri.path(), &call.head.headers, call.responder.is_gzip));
    Tickets: POST "/tickets" as "/tickets", READ, ORDINARY => ready(service.ticket(&call));
    Sources: GET "/sources" as "/sources", METRICS, ORDINARY => ready(service.list_sources());
    Delivery: POST "/in/{source}" as "/in/{source}", ANYONE, ORDINARY => Box::pin(service.deliver(call));
    Hub: GET "/in/{source}" as "/in/{source}", ANYONE, ORDINARY => Box::pin(service.answer_hub(call));
    Handshake: OPTIONS "/in/{source}" as "/in/{source}", ANYONE, ORDINARY => ready(service.shake_hands(&call));
    OpenApi: GET "/openapi.json" as "/openapi.json", ANYONE, ORDINARY => ready(Ok(openapi::answer(call.responder.is_gzip)));
}

// The first label is that of requests for which there is no route.
const _: () = assert!(ROUTES.len() < ROUTES_MAX);

impl Route {
    /// What an answer of success to this route changes for others, for the log.
    pub(super) fn deed(&self) -> Option<&'static str> {
        match self.handler {
            Handler::PutConsumer => Some("a consumer was made, or is there"),
            Handler::DeleteConsumer => Some("a consumer was removed"),
            Handler::Seek => Some("a consumer was moved"),
            Handler::Tickets => Some("a ticket was issued"),
            _ => None,
        }
    }

    /// The route that answers a method at a path; where none does, another one of that path.
    pub(super) fn find(path: &str, method: &Method) -> Option<&'static Self> {
        // Clients that were given an address with a slash at its end add no other one.
        let bare = |path: &'static str| path.strip_suffix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        let same = ROUTES.iter().find(|route| bare(route.path) == path);
        let first = same.or_else(|| ROUTES.iter().find(|route| fits(bare(route.path), path)))?;
        first.of_path().find(|route| route.answers(method)).or(Some(first))
    }

    /// All routes of its path.
    fn of_path(&self) -> impl Iterator<Item = &'static Self> {
        ROUTES.iter().filter(|route| route.path == self.path)
    }

    /// What a request that took this route is counted as.
    pub(super) fn label(&self) -> RouteLabel {
        RouteLabel { name: self.name, number: 1 + self.handler as usize }
    }

    /// The methods that are answered at its path, as `Allow` lists them.
    pub(super) fn allow(&self) -> String {
        let methods = self.of_path().map(|route| match route.method {
            Method::GET => "GET, HEAD",
            ref method => method.as_str(),
        });
        methods.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn answers(&self, method: &Method) -> bool {
        *method == self.method || (*method == Method::HEAD && self.method == Method::GET)
    }

    /// Whether it is there for connections to the listener of this door.
    pub(super) fn is_behind(&self, door: Door) -> bool {
        match door {
            Door::All => true,
            Door::Public => self.permission != METRICS,
            Door::Operators => self.is_vital || self.permission == METRICS,
        }
    }

    /// Whether it changes nothing. Whoever takes events for a consumer changes who may have them.
    pub(super) fn is_read(&self) -> bool {
        self.method == Method::GET && self.permission != CONSUME
    }

    /// Lets the caller have what is asked for.
    ///
    /// # Errors
    /// 403: the caller lacks the permission.
    pub(super) fn admit(&self, caller: &Caller) -> Result<(), Problem> {
        let lacked = self.permission.filter(|needed| !caller.may(*needed));
        lacked.map_or(Ok(()), |needed| Err(forbidden(needed)))
    }
}

/// Whether a path has the form of one with segments in braces.
fn fits(form: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    let is_fit = form.split('/').all(|wanted| {
        let segment = segments.next();
        if wanted.starts_with('{') { segment.is_some() } else { segment == Some(wanted) }
    });
    is_fit && segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_and_the_openapi_document_have_the_same_routes() {
        let document: serde_json::Value = serde_json::from_str(&openapi::DOCUMENT).unwrap();
        let described: BTreeSet<_> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                methods.as_object().unwrap().keys().map(move |method| (path.clone(), method.to_uppercase()))
            })
            .collect();
        let listed = ROUTES.iter().map(|route| (route.path.to_owned(), route.method.to_string())).collect();
        assert_eq!(described, listed);
    }

    #[test]
    fn a_path_leads_to_one_route_with_or_without_a_slash_at_its_end() {
        for (path, expected) in [
            ("", Some("/")),
            ("/", Some("/")),
            ("/publish/", Some("/publish")),
            ("/events", Some("/events")),
            ("/events/t/e", Some("/events/{topic}/{event_id}")),
            ("/events//e/", Some("/events/{topic}/{event_id}")),
            ("/events/t", None),
            ("/events/t/e/more", None),
            ("/consumers", Some("/consumers")),
            ("/consumers/c", Some("/consumers/{name}")),
            ("/consumers/c/events/", Some("/consumers/{name}/events")),
            ("/consumers/c/elsewhere", None),
            ("//", None),
            ("/publish//", None),
            ("/elsewhere", None),
        ] {
            assert_eq!(Route::find(path, &Method::GET).map(|route| route.path), expected, "{path}");
        }
    }

    #[test]
    fn a_path_with_several_methods_leads_each_to_its_own_route() {
        for (path, allowed) in
            [("/in/stripe", "POST, GET, HEAD, OPTIONS"), ("/consumers/c", "GET, HEAD, PUT, DELETE")]
        {
            for method in
                [Method::GET, Method::PUT, Method::POST, Method::OPTIONS, Method::DELETE, Method::HEAD]
            {
                let route = Route::find(path, &method).unwrap();
                assert_eq!(route.answers(&method), allowed.contains(method.as_str()), "{method} {path}");
                assert_eq!((route.path.starts_with(&path[..4]), route.allow().as_str()), (true, allowed));
            }
        }
        assert_eq!(Route::find("/publish", &Method::GET).unwrap().allow(), "POST");
    }

    #[test]
    fn every_route_admits_anyone_and_some_need_a_permission() {
        assert!(ROUTES.iter().all(|route| route.admit(&Caller::anyone()).is_ok()));
        let open: Vec<_> =
            ROUTES.iter().filter(|route| route.permission.is_none()).map(|route| route.path).collect();
        let (first, webhooks) =
            (["/", "/healthz", "/readyz", "/health", "/page/{file}"], ["/in/{source}"; 3]);
        assert_eq!(open, [&first[..], &webhooks, &["/openapi.json"]].concat());
    }
}
