//! An address that stays while its server comes back at another one.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Carries connections to an address that can change, or to several in turn.
#[derive(Debug)]
pub struct Relay {
    pub addr: SocketAddr,
    to: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Relay {
    pub fn start(to: SocketAddr) -> Self {
        Self::among(vec![to])
    }

    /// One that gives each connection to the next of these.
    pub fn among(to: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let to = Arc::new(Mutex::new(to));
        let targets = Arc::clone(&to);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let next = {
                    let mut targets = targets.lock().unwrap();
                    targets.rotate_left(1);
                    targets[0]
                };
                let Ok(server) = TcpStream::connect(next) else { continue };
                carry(client.try_clone().unwrap(), server.try_clone().unwrap());
                carry(server, client);
            }
        });
        Self { addr, to }
    }

    /// From now on connections go there.
    pub fn to(&self, addr: SocketAddr) {
        *self.to.lock().unwrap() = vec![addr];
    }
}

fn carry(mut from: TcpStream, mut into: TcpStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut into);
        let _ = into.shutdown(std::net::Shutdown::Both);
    });
}
