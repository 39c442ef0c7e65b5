//! TLS towards servers outside of the mesh, in one worker: the settings, made when the first connection needs them.
//!
//! INVARIANT: without settings that can be used there is no connection, never one in plain text.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use pipy_config::Originate;
use pipy_tls::{Credentials, outside_client};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

/// See the module.
pub(crate) struct Outside {
    pub(crate) config: Arc<Originate>,
    /// Settings, and the generation of our own credentials that they were made of. `None` in it: they can't be used.
    made: RefCell<Option<(u64, Option<Arc<ClientConfig>>)>>,
}

impl Outside {
    pub(crate) fn new(config: &Arc<Originate>) -> Rc<Self> {
        Rc::new(Outside { config: Arc::clone(config), made: RefCell::default() })
    }

    /// Settings for a connection. `None` where there are none that can be used.
    pub(crate) fn client_config(
        &self,
        credentials: Option<&(u64, Credentials)>,
    ) -> Option<Arc<ClientConfig>> {
        let generation = credentials.map_or(0, |(generation, _)| *generation);
        let mut made = self.made.borrow_mut();
        if let Some((of, config)) = &*made
            && *of == generation
        {
            return config.clone();
        }
        let config = match (&self.config.certificate, credentials) {
            (Some(own), _) => outside_client(&own.chain, &own.key.0, &self.config.roots).ok(),
            (None, Some((_, credentials))) => credentials.outside(&self.config.roots).ok(),
            (None, None) => return None,
        };
        *made = Some((generation, config.clone()));
        config
    }

    /// Who must be there.
    pub(crate) fn server_name(&self, address: IpAddr) -> Option<ServerName<'static>> {
        match &self.config.server_name {
            Some(name) => ServerName::try_from(name.clone()).ok(),
            None => Some(ServerName::IpAddress(address.into())),
        }
    }
}
