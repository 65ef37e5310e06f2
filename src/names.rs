//! Addresses of hosts, found without the C library: a static program cannot use its plug-ins.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use hickory_resolver::TokioResolver;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The addresses of a host, on their way.
pub type Found<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// Finds the addresses of hosts.
pub trait Lookup: Send + Sync + 'static {
    /// The addresses of `host`, at least one.
    fn lookup<'a>(&'a self, host: &'a str) -> Found<'a>;
}

/// Asks as this machine is set up to: `/etc/hosts`, then the servers of `/etc/resolv.conf`. Clones
/// share what they learned.
#[derive(Clone, Default)]
pub struct SystemNames {
    resolver: Arc<OnceLock<Result<TokioResolver, String>>>,
}

impl Lookup for SystemNames {
    fn lookup<'a>(&'a self, host: &'a str) -> Found<'a> {
        Box::pin(async move {
            let resolver = self.resolver.get_or_init(|| {
                let built = TokioResolver::builder_tokio().and_then(|builder| builder.build());
                built.map_err(|error| error.to_string())
            });
            let resolver = resolver.as_ref().map_err(|why| io::Error::other(why.clone()))?;
            let found = resolver.lookup_ip(host).await.map_err(io::Error::other)?;
            Ok(found.iter().collect())
        })
    }
}

/// Why the addresses of a host are not to be used.
pub type Objection = Box<dyn StdError + Send + Sync>;

/// Names for an HTTP client, whose addresses `check` looks at whenever a connection is made.
pub struct Checked<L> {
    names: Arc<L>,
    check: fn(&[IpAddr]) -> Result<(), Objection>,
}

impl<L: Lookup> Checked<L> {
    /// The names of `names`, as far as `check` has nothing against them.
    pub fn new(names: L, check: fn(&[IpAddr]) -> Result<(), Objection>) -> Self {
        Self { names: Arc::new(names), check }
    }
}

impl<L: Lookup> Resolve for Checked<L> {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, check) = (self.names.clone(), self.check);
        Box::pin(async move {
            let found = names.lookup(name.as_str()).await?;
            check(&found)?;
            if found.is_empty() {
                return Err(io::Error::from(io::ErrorKind::NotFound).into());
            }
            // The client puts in the port it wants.
            let addresses = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_machine_knows_itself() {
        let found = SystemNames::default().lookup("localhost").await.expect("addresses");
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty(), "{found:?}");
    }
}
