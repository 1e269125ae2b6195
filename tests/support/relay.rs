//! An address that stays while its server comes back at another one.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Carries connections to an address that can change.
#[derive(Debug)]
pub struct Relay {
    pub addr: SocketAddr,
    to: Arc<Mutex<SocketAddr>>,
}

impl Relay {
    pub fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let to = Arc::new(Mutex::new(to));
        let target = Arc::clone(&to);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(*target.lock().unwrap()) else { continue };
                carry(client.try_clone().unwrap(), server.try_clone().unwrap());
                carry(server, client);
            }
        });
        Self { addr, to }
    }

    /// From now on connections go there.
    pub fn to(&self, addr: SocketAddr) {
        *self.to.lock().unwrap() = addr;
    }
}

fn carry(mut from: TcpStream, mut into: TcpStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut into);
        let _ = into.shutdown(std::net::Shutdown::Both);
    });
}
