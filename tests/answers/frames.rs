//! HTTP/2 by hand: what no client library would do.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header field, not indexed and not packed.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0, name.len() as u8];
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(value.len() as u8);
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

/// Asks for each path on a stream of its own, with these header fields, and lets the server send no
/// byte of a body.
pub fn ask(addr: SocketAddr, paths: &[&str], fields: &[(&str, &str)]) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE is 0.
    bytes.extend(frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]));
    bytes.extend(frame(4, 1, 0, &[]));
    for (number, path) in paths.iter().enumerate() {
        // GET and http, of the static table.
        let mut head = vec![0x82, 0x86];
        head.extend(field(":path", path));
        head.extend(field(":authority", "localhost"));
        for (name, value) in fields {
            head.extend(field(name, value));
        }
        bytes.extend(frame(1, 5, 1 + 2 * number as u32, &head));
    }
    stream.write_all(&bytes).unwrap();
    stream
}
