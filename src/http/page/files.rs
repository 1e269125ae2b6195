//! The files of the page. It loads nothing from elsewhere, and runs nothing but its own files.

use std::io::Write;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_NONE_MATCH, REFERRER_POLICY,
};
use xxhash_rust::xxh3::xxh3_64;

use crate::http::wire::answer::{Answer, empty, fixed};
use crate::http::wire::problem::Problem;

/// Where the files are, but for the first one, which is at the root too.
const FOLDER: &str = "/page/";
const FIRST: &str = "index.html";
/// A browser asks each time whether it has the file as it is now.
const REVALIDATED: HeaderValue = HeaderValue::from_static("no-cache");
/// Nothing from elsewhere, nothing inline, no HTML made of text, in no frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);
/// It needs none of what a browser asks its user for.
const PERMISSIONS: HeaderValue = HeaderValue::from_static(
    "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
);
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// A file of `page/`.
#[derive(Debug)]
struct File {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    /// Made when the page is asked for the first time.
    served: LazyLock<Served, fn() -> Served>,
}

/// What is made of a file once.
#[derive(Debug)]
struct Served {
    packed: Vec<u8>,
    /// Tells this content from any other, as it is and packed.
    tags: [HeaderValue; 2],
}

macro_rules! files {
    ($($name:literal: $kind:literal),+ $(,)?) => {
        /// All of them.
        static FILES: [File; [$($name),+].len()] = [$(File {
            name: $name,
            kind: $kind,
            bytes: include_bytes!(concat!("../../../page/", $name)),
            served: LazyLock::new(|| Served::of(include_bytes!(concat!("../../../page/", $name)))),
        }),+];
    };
}

files! {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "api.js": "text/javascript; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "chart.js": "text/javascript; charset=utf-8",
    "consumers.js": "text/javascript; charset=utf-8",
    "dom.js": "text/javascript; charset=utf-8",
    "duplicates.js": "text/javascript; charset=utf-8",
    "event.js": "text/javascript; charset=utf-8",
    "events.js": "text/javascript; charset=utf-8",
    "find.js": "text/javascript; charset=utf-8",
    "format.js": "text/javascript; charset=utf-8",
    "json.js": "text/javascript; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "now.js": "text/javascript; charset=utf-8",
    "rows.js": "text/javascript; charset=utf-8",
    "sources.js": "text/javascript; charset=utf-8",
    "sse.js": "text/javascript; charset=utf-8",
    "token.js": "text/javascript; charset=utf-8",
    "topic.js": "text/javascript; charset=utf-8",
    "topics.js": "text/javascript; charset=utf-8",
    "try.js": "text/javascript; charset=utf-8",
}

impl Served {
    fn of(bytes: &[u8]) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        // A file that can't be packed is served as it is.
        let packed = encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default();
        let sum = xxh3_64(bytes);
        let tag = |ending: &str| {
            let text = format!("\"{sum:016x}{ending}\"");
            HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("\"\""))
        };
        Self { packed, tags: [tag(""), tag("-gzip")] }
    }
}

/// The first file, which loads the others.
pub(crate) fn first(asked: &HeaderMap, is_gzip: bool) -> Result<Answer, Problem> {
    answer(FIRST, asked, is_gzip)
}

/// The file at a path.
///
/// # Errors
/// 404: the page has no such file.
pub(crate) fn at(path: &str, asked: &HeaderMap, is_gzip: bool) -> Result<Answer, Problem> {
    answer(path.strip_prefix(FOLDER).unwrap_or_default(), asked, is_gzip)
}

fn answer(name: &str, asked: &HeaderMap, is_gzip: bool) -> Result<Answer, Problem> {
    let Some(file) = FILES.iter().find(|file| file.name == name) else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "the page has no such file; it begins at /"));
    };
    let is_gzip = is_gzip && !file.served.packed.is_empty();
    let tag = &file.served.tags[usize::from(is_gzip)];
    let mut answer = match is_known(asked, tag) {
        true => empty(StatusCode::NOT_MODIFIED),
        false => {
            let bytes = if is_gzip { file.served.packed.as_slice() } else { file.bytes };
            fixed(HeaderValue::from_static(file.kind), bytes)
        }
    };
    let headers = answer.headers_mut();
    if is_gzip && headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(ETAG, tag.clone());
    headers.insert(CACHE_CONTROL, REVALIDATED);
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(PERMISSIONS_POLICY, PERMISSIONS);
    Ok(answer)
}

/// Whether the client has what this tag stands for.
fn is_known(asked: &HeaderMap, tag: &HeaderValue) -> bool {
    let tags = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = tags.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn all_files_of_the_folder_are_served_and_no_other() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let there: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| [".html", ".css", ".js"].iter().any(|ending| name.ends_with(ending)))
            .collect();
        let served: BTreeSet<String> = FILES.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(there, served);
        for file in &FILES {
            assert!(at(&format!("/page/{}", file.name), &HeaderMap::new(), false).is_ok());
        }
        assert!(
            at("/page/", &HeaderMap::new(), false).is_err()
                && at("/page/x", &HeaderMap::new(), true).is_err()
        );
    }

    #[test]
    fn a_browser_that_has_the_file_is_told_so_and_gets_no_body() {
        for is_gzip in [false, true] {
            let whole = first(&HeaderMap::new(), is_gzip).unwrap();
            assert_eq!(
                (whole.status(), whole.headers().contains_key(CONTENT_ENCODING)),
                (StatusCode::OK, is_gzip)
            );
            let tag = whole.headers()[ETAG].clone();
            let mut asked = HeaderMap::new();
            asked.insert(IF_NONE_MATCH, tag.clone());
            let known = first(&asked, is_gzip).unwrap();
            assert_eq!((known.status(), &known.headers()[ETAG]), (StatusCode::NOT_MODIFIED, &tag));
            assert_eq!(first(&asked, !is_gzip).unwrap().status(), StatusCode::OK, "another form of it");
        }
    }

    #[test]
    fn the_page_packs_to_a_hundred_kilobytes() {
        let bytes: usize = FILES.iter().map(|file| file.served.packed.len()).sum();
        assert!((10_000..100_000).contains(&bytes), "{bytes}");
    }
}
