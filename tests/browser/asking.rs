//! Requests with exactly these headers, by either protocol, and their answers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::handshake;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::service::Service;

/// Time in which an answer must come.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// A request, by what a browser says of it.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub service: &'a Service,
    pub method: &'a str,
    pub path: &'a str,
    /// The service's own address, if it is not said.
    pub host: Option<&'a str>,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a str,
}

impl<'a> Asked<'a> {
    pub fn of(service: &'a Service) -> Self {
        Self { service, method: "GET", path: "/", host: None, headers: &[], body: "" }
    }
}

pub struct Answer {
    pub status: u16,
    headers: HeaderMap,
    pub body: String,
}

impl Answer {
    /// A header that is there once, or not at all.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().unwrap();
        assert_eq!(values.next(), None, "{name} is there more than once");
        Some(value)
    }

    /// All values of a header.
    pub fn headers(&self, name: &str) -> String {
        let values: Vec<_> = self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
        values.join(", ")
    }
}

pub fn ask(protocol: Protocol, asked: Asked<'_>) -> Answer {
    match protocol {
        Protocol::Http1 => http1(asked),
        Protocol::Http2 => http2(asked),
    }
}

fn http1(asked: Asked<'_>) -> Answer {
    let own = asked.service.addr.to_string();
    let (host, length) = (asked.host.unwrap_or(&own), asked.body.len());
    let mut head = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", asked.method, asked.path);
    for (name, value) in asked.headers {
        head += &format!("{name}: {value}\r\n");
    }
    raw(asked.service, &format!("{head}Content-Length: {length}\r\n\r\n{}", asked.body))
}

/// The answer to these bytes, after which the client closes its side.
pub fn raw(service: &Service, request: &str) -> Answer {
    let mut stream = TcpStream::connect(service.addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may answer and close before it has read all.
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        let name: hyper::header::HeaderName = name.parse().unwrap();
        headers.append(name, value.parse().unwrap());
    }
    Answer { status, headers, body: body.to_owned() }
}

fn http2(asked: Asked<'_>) -> Answer {
    let own = asked.service.addr.to_string();
    let uri = format!("http://{}{}", asked.host.unwrap_or(&own), asked.path);
    let mut request = Request::builder().method(asked.method).uri(uri);
    for (name, value) in asked.headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(asked.body.to_owned()))).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answered = async {
        let stream = tokio::net::TcpStream::connect(asked.service.addr).await.unwrap();
        let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let answer: Response<_> = sender.send_request(request).await.unwrap();
        let (head, body) = answer.into_parts();
        (head, body.collect().await.unwrap().to_bytes())
    };
    let (head, body) = runtime.block_on(async { tokio::time::timeout(PATIENCE, answered).await.unwrap() });
    let body = String::from_utf8(body.to_vec()).unwrap();
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}

/// The status of the answer to a request by HTTP/2 that has these fields, which a client would not
/// send; `None` if the stream is reset.
pub fn frame(service: &Service, fields: &[(&str, &str)]) -> Option<u16> {
    let mut stream = TcpStream::connect(service.addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut block = Vec::new();
    for (name, value) in fields {
        // A literal without indexing, the name as it is (RFC 7541, section 6.2.2).
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend_from_slice(&[0, 0, u8::try_from(block.len()).unwrap(), 1, 5, 0, 0, 0, 1]);
    bytes.extend_from_slice(&block);
    stream.write_all(&bytes).unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).unwrap();
        match (head[3], payload.first()) {
            // Entries of the static table: the status comes first.
            (1, Some(0x88)) => return Some(200),
            (1, Some(0x8c)) => return Some(400),
            (3, _) => return None,
            (0 | 1, other) => panic!("{other:?}"),
            _ => {}
        }
    }
}
