//! Requests for `http://` through an HTTP proxy. Their request line names the whole URL, as RFC 9112
//! (section 3.2.2) asks for: many proxies allow CONNECT, all that ureq knows, for TLS alone.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ureq::config::Config;
use ureq::http::{HeaderValue, Uri};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport,
};
use ureq::{Agent, Error, Proxy};

/// An agent whose requests all go to a proxy, for the service at `origin`: a URL without a path.
pub(super) fn agent(config: Config, proxy: &Proxy, origin: String) -> Agent {
    let connector = TcpConnector::default().chain(Naming { origin });
    Agent::with_parts(config, connector, ToProxy(proxy.uri().clone()))
}

/// The header that shows the user of a proxy to it, if its URL names one.
pub(super) fn authorization(proxy: &Proxy) -> Option<HeaderValue> {
    if proxy.username().is_none() && proxy.password().is_none() {
        return None;
    }
    let user = format!("{}:{}", proxy.username().unwrap_or_default(), proxy.password().unwrap_or_default());
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(user))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Looks up the proxy, whatever is asked for: the service may have a name that only the proxy knows.
#[derive(Debug)]
struct ToProxy(Uri);

impl Resolver for ToProxy {
    fn resolve(
        &self,
        _uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        DefaultResolver::default().resolve(&self.0, config, timeout)
    }
}

#[derive(Debug)]
struct Naming {
    origin: String,
}

impl<In: Transport> Connector<In> for Naming {
    type Out = Named<In>;

    fn connect(
        &self,
        _details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Named<In>>, Error> {
        Ok(chained.map(|inner| Named { inner, origin: Some(self.origin.clone()) }))
    }
}

/// A connection for one request, which begins with the first bytes that are sent.
#[derive(Debug)]
struct Named<T> {
    inner: T,
    /// What is to be put before the path of the request; `None` once it is there.
    origin: Option<String>,
}

impl<T: Transport> Transport for Named<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let Some(origin) = self.origin.take() else { return self.inner.transmit_output(amount, timeout) };
        let mut text = self.inner.buffers().output()[..amount].to_vec();
        let path = memchr::memchr(b' ', &text).map_or(0, |method| method + 1);
        text.splice(path..path, origin.into_bytes());
        // It may be more than the buffer takes.
        let mut rest = &text[..];
        while !rest.is_empty() {
            let output = self.inner.buffers().output();
            let (now, later) = rest.split_at(rest.len().min(output.len()));
            output[..now.len()].copy_from_slice(now);
            self.inner.transmit_output(now.len(), timeout)?;
            rest = later;
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        // A second request would begin where nobody can tell, so each has a connection of its own.
        self.origin.is_some() && self.inner.is_open()
    }
}
