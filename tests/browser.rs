//! What a browser may be made to send by a page of another origin, and under a name that its owner
//! lets lead here: over HTTP/1.1 and HTTP/2, to a real process.

mod asking;

use crate::support::service::Service;
use asking::{Asked, Protocol, ask};

const EVIL: &str = "https://evil.example";
const PROTOCOLS: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];
const ROUTES: [(&str, &str); 12] = [
    ("GET", "/"),
    ("POST", "/publish"),
    ("POST", "/publish/"),
    ("GET", "/events"),
    ("GET", "/events/t/1"),
    ("HEAD", "/stats"),
    ("GET", "/topics"),
    ("GET", "/health"),
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/nothing"),
    ("OPTIONS", "/publish"),
];

fn service(settings: &[(&str, &str)]) -> Service {
    Service::started(|mut start| {
        start.env.extend(settings.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        start
    })
}

fn event(id: &str) -> String {
    format!(r#"{{"topic":"t","event_id":"{id}","timestamp":"2026-11-22T10:00:00Z","source":"page"}}"#)
}

#[test]
fn no_page_of_another_origin_gets_anything_or_leaves_anything() {
    let service = service(&[]);
    let own = format!("http://{}", service.addr);
    for protocol in PROTOCOLS {
        for (method, path) in ROUTES {
            let foreign: [&[(&str, &str)]; 7] = [
                &[("origin", EVIL)],
                &[("origin", "null")],
                &[("origin", EVIL), ("sec-fetch-site", "same-origin")],
                &[("origin", &own), ("sec-fetch-site", "cross-site")],
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "no-cors"),
                    ("sec-fetch-dest", "script"),
                ],
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "iframe"),
                ],
                &[("sec-fetch-site", "same-site")],
            ];
            for headers in foreign {
                let asked = Asked { method, path, headers, body: &event("csrf"), ..Asked::of(&service) };
                let answer = ask(protocol, asked);
                assert_eq!(answer.status, 403, "{protocol:?} {method} {path} {headers:?}");
                assert_eq!(answer.header("access-control-allow-origin"), None);
                assert!(method == "HEAD" || answer.body.contains("--cors-origin"), "{}", answer.body);
            }
        }
    }
    assert_eq!(service.stored(), 0);
}

#[test]
fn programs_own_pages_and_links_that_lead_here_are_served() {
    let service = service(&[]);
    let own = format!("http://{}", service.addr);
    for protocol in PROTOCOLS {
        let served: [&[(&str, &str)]; 5] = [
            &[],
            // Node's fetch says no more.
            &[("sec-fetch-mode", "cors")],
            &[("origin", &own), ("sec-fetch-site", "same-origin")],
            &[("origin", &own)],
            &[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
        ];
        for (number, headers) in served.into_iter().enumerate() {
            let id = format!("{protocol:?} {number}");
            let asked =
                Asked { method: "POST", path: "/publish", headers, body: &event(&id), ..Asked::of(&service) };
            assert_eq!(ask(protocol, asked).status, 200, "{id}");
        }
        let link = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        for (method, path, status) in [
            ("GET", "/events", 200),
            ("HEAD", "/stats", 200),
            // It would keep a consumer's events from others.
            ("GET", "/consumers/c/events", 403),
            ("POST", "/publish", 403),
            ("DELETE", "/events", 403),
        ] {
            let asked = Asked { method, path, headers: &link, body: &event("link"), ..Asked::of(&service) };
            assert_eq!(ask(protocol, asked).status, status, "{protocol:?} {method} {path}");
        }
    }
    assert_eq!(service.stored(), 10);
}

#[test]
fn only_names_that_lead_nowhere_else_are_answered() {
    // Whoever allows a foreign host is asked for tokens, which is not what is looked at here.
    let hosts = ("SEKALI_ALLOWED_HOST", "sekali, .example.org");
    let service = service(&[hosts, ("SEKALI_INSECURE_NO_AUTH", "true")]);
    let port = service.addr.port();
    for protocol in PROTOCOLS {
        for (host, status) in [
            (format!("127.0.0.1:{port}"), 200),
            (format!("localhost:{port}"), 200),
            ("LOCALHOST".into(), 200),
            ("app.localhost:1".into(), 200),
            ("[::1]:1".into(), 200),
            ("127.8.8.8".into(), 200),
            ("sekali:8080".into(), 200),
            ("a.b.Example.org".into(), 200),
            ("evil.example".into(), 421),
            (format!("evil.example:{port}"), 421),
            ("localhost.evil.example".into(), 421),
            ("a".into(), 421),
            ("192.0.2.1".into(), 421),
            ("169.254.169.254".into(), 421),
            ("0.0.0.0:8080".into(), 421),
            ("[2001:db8::1]".into(), 421),
            ("sekali.evil.example".into(), 421),
            ("user@localhost".into(), 400),
            ("127.0.0.1@evil.example".into(), 400),
        ] {
            for (method, path) in ROUTES {
                let own = format!("http://{host}");
                let headers = [("origin", own.as_str())];
                let asked = Asked { host: Some(&host), method, path, ..Asked::of(&service) };
                let answer = ask(protocol, asked);
                if status == 200 {
                    let is_served = [200, 404, 405, 422].contains(&answer.status);
                    assert!(is_served, "{protocol:?} {host} {method} {path}: {}", answer.status);
                } else {
                    assert_eq!(answer.status, status, "{protocol:?} {host} {method} {path}");
                    assert!(status == 400 || method == "HEAD" || answer.body.contains("--allowed-host"));
                }
                // A page that was rebound calls itself by the same name.
                let answer = ask(protocol, Asked { headers: &headers, ..asked });
                assert!(status == 200 || answer.status == status, "{protocol:?} {host} {method} {path}");
            }
        }
    }
}

#[test]
fn every_host_is_answered_where_that_is_asked_for() {
    let service = service(&[("SEKALI_ALLOWED_HOST", "*"), ("SEKALI_INSECURE_NO_AUTH", "true")]);
    for protocol in PROTOCOLS {
        for (host, status) in [("evil.example", 200), ("192.0.2.1:1", 200), ("user@localhost", 400)] {
            let asked = Asked { host: Some(host), path: "/stats", ..Asked::of(&service) };
            assert_eq!(ask(protocol, asked).status, status, "{protocol:?} {host}");
        }
    }
}

#[test]
fn odd_authorities_are_malformed() {
    let service = service(&[]);
    let http2 = |host: Option<&str>, headers: &[(&str, &str)]| {
        ask(Protocol::Http2, Asked { host, headers, path: "/stats", ..Asked::of(&service) }).status
    };
    assert_eq!(http2(Some("localhost"), &[("host", "localhost")]), 200);
    assert_eq!(http2(Some("localhost"), &[("host", "LOCALHOST:80")]), 200);
    assert_eq!(http2(Some("localhost"), &[("host", "evil.example")]), 400);
    assert_eq!(http2(Some("localhost"), &[("host", "localhost:8080")]), 400);
    assert_eq!(http2(Some("localhost"), &[("host", "")]), 400);
    assert_eq!(http2(Some("localhost"), &[("host", "localhost"), ("host", "localhost")]), 400);
    let frame = |fields: &[(&str, &str)]| asking::frame(&service, fields);
    let [method, scheme, path] = [(":method", "GET"), (":scheme", "http"), (":path", "/stats")];
    assert_eq!(frame(&[method, scheme, path, (":authority", "localhost")]), Some(200));
    assert_eq!(frame(&[method, scheme, path, ("host", "localhost")]), Some(200));
    assert_eq!(frame(&[method, scheme, path]), Some(400), "no authority");
    assert_eq!(frame(&[method, scheme, ("host", "localhost")]), Some(400), "no path");
    assert_eq!(frame(&[method, scheme]), Some(400), "neither");
    // What can't even be put together is an error of the stream.
    assert_eq!(frame(&[method, scheme, (":authority", "localhost")]), None, "no path");
    assert_eq!(frame(&[method, scheme, path, (":authority", "a b")]), None);
    let raw = |head: &str| asking::raw(&service, head).status;
    for (head, status) in [
        ("GET /stats HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET /stats HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET /stats HTTP/1.1\r\nHost: localhost/x\r\n\r\n", 400),
        ("GET /stats HTTP/1.1\r\nHost: xn--\u{e4}\r\n\r\n", 400),
        ("GET /stats HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        // A whole URI counts, and the header beside it does not.
        ("GET http://localhost/stats HTTP/1.1\r\nHost: evil.example\r\n\r\n", 200),
        ("GET http://evil.example/stats HTTP/1.1\r\nHost: localhost\r\n\r\n", 421),
        ("GET http://user@localhost/stats HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        // Browsers have always sent a Host.
        ("GET /stats HTTP/1.0\r\n\r\n", 200),
        ("GET /stats HTTP/1.0\r\nHost: evil.example\r\n\r\n", 421),
    ] {
        assert_eq!(raw(head), status, "{head}");
    }
}

#[test]
fn a_page_of_an_allowed_origin_asks_first_and_reads_the_answer() {
    const PAGE: &str = "https://app.example";
    let service = service(&[("SEKALI_CORS_ORIGIN", "http://localhost:3000,https://App.example:443/")]);
    for protocol in PROTOCOLS {
        let names = "content-type,ce-id,last-event-id";
        let headers = [
            ("origin", PAGE),
            ("sec-fetch-site", "cross-site"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", names),
        ];
        for (path, methods) in [("/publish", "POST"), ("/events", "GET, HEAD")] {
            let answer =
                ask(protocol, Asked { method: "OPTIONS", path, headers: &headers, ..Asked::of(&service) });
            assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{protocol:?} {path}");
            assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
            assert_eq!(answer.header("access-control-allow-methods"), Some(methods));
            assert_eq!(answer.header("access-control-allow-headers"), Some(names));
            assert!(answer.header("access-control-max-age").unwrap().parse::<u32>().unwrap() > 0);
            assert!(answer.headers("vary").contains("origin"));
        }
        let headers = &headers[..2];
        let id = format!("{protocol:?}");
        // A refusal can be read as well.
        for (body, status) in [(event(&id), 200), ("{}".to_owned(), 422)] {
            let asked =
                Asked { method: "POST", path: "/publish", headers, body: &body, ..Asked::of(&service) };
            let answer = ask(protocol, asked);
            assert_eq!(answer.status, status, "{}", answer.body);
            assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
            assert!(answer.header("access-control-expose-headers").unwrap().contains("retry-after"));
        }
        for origin in
            ["https://app.example.evil.example", "http://app.example", "https://app.example:444", "null"]
        {
            let headers = [("origin", origin), ("access-control-request-method", "POST")];
            for method in ["OPTIONS", "POST"] {
                let asked = Asked { method, path: "/publish", headers: &headers, ..Asked::of(&service) };
                let answer = ask(protocol, asked);
                assert_eq!(answer.status, 403, "{origin}");
                assert_eq!(answer.header("access-control-allow-origin"), None);
            }
        }
        // What a program reads is another answer, for a cache.
        let answer = ask(protocol, Asked { path: "/stats", ..Asked::of(&service) });
        assert!(
            answer.header("access-control-allow-origin").is_none()
                && answer.headers("vary").contains("origin")
        );
    }
    assert_eq!(service.stored(), 2);
}

#[test]
fn every_answer_says_what_it_is_and_for_whom() {
    let service = service(&[]);
    for protocol in PROTOCOLS {
        for (method, path) in ROUTES.into_iter().chain([("GET", "/openapi.json")]) {
            for (host, headers) in [(None, &[][..]), (None, &[("origin", EVIL)]), (Some("evil.example"), &[])]
            {
                let answer = ask(protocol, Asked { host, method, path, headers, ..Asked::of(&service) });
                assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{method} {path}");
                assert_eq!(
                    answer.header("cross-origin-resource-policy"),
                    Some("same-origin"),
                    "{method} {path}"
                );
                let is_kept = path == "/openapi.json" && answer.status == 200;
                assert_eq!(
                    answer.header("cache-control"),
                    (!is_kept).then_some("no-store"),
                    "{method} {path}"
                );
            }
        }
    }
}

#[test]
fn a_sender_of_cloud_events_is_told_that_it_may() {
    let service = service(&[]);
    let sender = [("webhook-request-origin", "eventgrid.azure.net"), ("webhook-request-rate", "120")];
    for protocol in PROTOCOLS {
        let asked = Asked { method: "OPTIONS", path: "/publish", headers: &sender, ..Asked::of(&service) };
        let answer = ask(protocol, asked);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("webhook-allowed-origin"), Some("eventgrid.azure.net"));
        assert_eq!(answer.header("webhook-allowed-rate"), Some("*"));
        let answer = ask(protocol, Asked { headers: &sender[..1], ..asked });
        assert_eq!((answer.status, answer.header("webhook-allowed-rate")), (200, None));
        assert_eq!(ask(protocol, Asked { path: "/events", ..asked }).status, 405);
        assert_eq!(ask(protocol, Asked { headers: &[], ..asked }).status, 405);
        // Not for a page, which has no business with it.
        let page = [sender[0], ("origin", EVIL)];
        assert_eq!(ask(protocol, Asked { headers: &page, ..asked }).status, 403);
    }
}
