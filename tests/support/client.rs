//! A small HTTP/1.1 client that keeps its connection, and says honestly when there was no answer.

use std::io::{self, BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::door;

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

/// An answer of which the whole body was read.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

/// A connection that is made when it is needed.
#[derive(Debug)]
pub struct Client {
    addr: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, connection: None }
    }

    /// Connects, if it is not connected.
    ///
    /// # Errors
    /// Nobody listens: nothing was sent.
    pub fn connect(&mut self) -> io::Result<()> {
        if self.connection.is_none() {
            let stream = TcpStream::connect_timeout(&self.addr, Duration::from_secs(10))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            stream.set_write_timeout(Some(Duration::from_secs(30)))?;
            self.connection = Some(BufReader::new(stream));
        }
        Ok(())
    }

    pub fn get(&mut self, path: &str) -> io::Result<Response> {
        self.send("GET", path, JSON, &[])
    }

    pub fn post(&mut self, path: &str, body: &[u8]) -> io::Result<Response> {
        self.send("POST", path, JSON, body)
    }

    /// A POST with these headers and no others of its own, but for those that HTTP needs.
    pub fn post_with(&mut self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Response> {
        self.send("POST", path, headers, body)
    }

    /// Sends one request and reads its answer.
    ///
    /// # Errors
    /// There was no whole answer: whether the request was carried out is unknown.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        self.connect()?;
        let Some(mut connection) = self.connection.take() else { return Err(ErrorKind::NotConnected.into()) };
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n", self.addr, body.len());
        // Senders of webhooks show no token of the service, and what a test shows itself is enough.
        let shows_own = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        if let Some(token) = door::token().filter(|_| !shows_own && !path.starts_with("/in/")) {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        connection.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        let (response, keep) = receive(&mut connection)?;
        if keep {
            self.connection = Some(connection);
        }
        Ok(response)
    }
}

fn line(connection: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    connection.read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.trim_end().to_owned()),
        None => Err(Error::new(ErrorKind::UnexpectedEof, "the connection ended within an answer's head")),
    }
}

/// The answer that comes next, and whether the connection stays.
///
/// # Errors
/// There is none, or not a whole one.
pub fn receive(connection: &mut impl BufRead) -> io::Result<(Response, bool)> {
    let invalid = |what: &str| Error::new(ErrorKind::InvalidData, what.to_owned());
    let first = line(connection)?;
    let status = first.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| invalid(&first))?;
    let (mut keep, mut length, mut chunked) = (true, 0, false);
    loop {
        let header = line(connection)?.to_ascii_lowercase();
        let Some((name, value)) = header.split_once(':') else { break };
        match (name, value.trim()) {
            ("content-length", value) => length = value.parse().map_err(|_| invalid(value))?,
            ("transfer-encoding", value) => chunked = value == "chunked",
            ("connection", value) => keep = value != "close",
            _ => {}
        }
    }
    let mut body = Vec::new();
    loop {
        if chunked {
            length = u64::from_str_radix(&line(connection)?, 16).map_err(|_| invalid("chunk"))?;
        }
        if io::copy(&mut connection.take(length), &mut body)? != length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if chunked {
            line(connection)?;
        }
        if !chunked || length == 0 {
            return Ok((Response { status, body }, keep));
        }
    }
}

/// A path segment or query value, percent-encoded.
pub fn escape(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
