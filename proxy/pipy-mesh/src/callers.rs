//! Who asks: from the rules that let clients outside of the mesh in, and from what a client has proved, to one word that
//! decisions depend on.
//!
//! In: the source rules that cover a client's address, its identity, the names of its certificate, the server name that
//! it asked for. Out: a [`Caller`]. INVARIANT: of several rules each counts by itself, and they add up; a client that fits
//! none of them is what it has proved to be, and without an identity it may nothing at all.
//!
//! Not here: which rules cover an address, and what a caller may (`decide`).

use std::collections::HashSet;
use std::sync::Arc;

use ipnet::IpNet;

use crate::decide::Refusal;

/// A rule that lets clients outside of the mesh in, made ready.
#[derive(Debug, PartialEq, Eq)]
pub struct SourcePlan {
    /// Client addresses.
    pub cidrs: Vec<IpNet>,
    /// Where it comes from.
    pub origin: Arc<str>,
    /// The client must speak mutual TLS.
    pub mtls: bool,
    /// The client must speak TLS, and is asked for no certificate.
    pub tls: bool,
    /// Names of which its certificate must carry one. Empty: any.
    pub principals: Vec<String>,
    /// Server names of which it must ask for one, lower case. Empty: any, or none.
    pub server_names: Vec<String>,
    /// Origins of the routes that it may use. `None`: all of them.
    pub routes: Option<HashSet<Arc<str>>>,
}

impl SourcePlan {
    /// Whether a client speaks to both rules in the same way.
    pub fn speaks_like(&self, other: &SourcePlan) -> bool {
        (self.mtls, self.tls) == (other.mtls, other.tls)
    }

    fn fits_name(&self, asked: Option<&str>) -> bool {
        let fits = |name: &String, asked: &str| match name.strip_prefix('*') {
            Some(suffix) => asked.len() > suffix.len() && asked.ends_with(suffix),
            None => asked == name,
        };
        self.server_names.is_empty()
            || asked.is_some_and(|asked| self.server_names.iter().any(|name| fits(name, asked)))
    }

    fn fits(&self, proof: &Proof<'_>) -> bool {
        let named = |principal: &String| proof.names.contains(principal);
        let proven = !self.mtls || self.principals.is_empty() || self.principals.iter().any(named);
        proven && self.fits_name(proof.server_name)
    }
}

/// What a client has shown of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proof<'c> {
    /// Whether it speaks TLS to us.
    pub encrypted: bool,
    /// Its SPIFFE identity.
    pub identity: Option<&'c str>,
    /// Every name of its certificate.
    pub names: &'c [String],
    /// The server name that it asked for, lower case.
    pub server_name: Option<&'c str>,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller<'c> {
    /// A member of the mesh, by the identity that it has proved.
    Member(&'c str),
    /// Someone outside the mesh whom a source rule lets in: the rule has decided already.
    Admitted,
    /// The same, on some routes only.
    Bounded(Bounds<'c>),
    /// Someone who is known for no member and whom no source rule lets in, and why: may nothing, also where members may
    /// everything.
    Stranger(Refusal),
    /// Someone who has proved nothing, where nobody can.
    Unknown,
}

/// The source rules that let someone in on some routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds<'c> {
    rules: &'c [Arc<SourcePlan>],
    proof: Proof<'c>,
}

impl<'c> Bounds<'c> {
    /// The object that lets it use a route, by the route's origin.
    pub fn on(&self, route: &Arc<str>) -> Option<&'c Arc<str>> {
        let rules = self.rules.iter().filter(|rule| rule.fits(&self.proof));
        rules
            .filter(|rule| rule.routes.as_ref().is_some_and(|on| on.contains(route)))
            .map(|rule| &rule.origin)
            .next()
    }

    /// The identity that it has proved besides: what members may, it may as well.
    pub fn identity(&self) -> Option<&'c str> {
        self.proof.identity
    }

    /// The first of the objects that let it in.
    pub fn origin(&self) -> Option<&'c Arc<str>> {
        self.rules.iter().find(|rule| rule.fits(&self.proof)).map(|rule| &rule.origin)
    }
}

/// Who asks, by the source rules that cover the client's address and what it has proved.
pub fn caller<'c>(rules: &'c [Arc<SourcePlan>], proof: Proof<'c>) -> Caller<'c> {
    let mut fitting = rules.iter().filter(|rule| rule.fits(&proof)).peekable();
    if fitting.peek().is_some() {
        return match fitting.any(|rule| rule.routes.is_none()) {
            true => Caller::Admitted,
            false => Caller::Bounded(Bounds { rules, proof }),
        };
    }
    match (proof.identity, rules.first()) {
        (Some(identity), _) => Caller::Member(identity),
        (None, Some(_)) if !rules.iter().any(|rule| rule.fits_name(proof.server_name)) => {
            Caller::Stranger(Refusal::NoServerName)
        }
        (None, Some(_)) => Caller::Stranger(Refusal::NotAllowed),
        // A certificate of the mesh's authority alone makes no member: others are given some as well (AccessCert).
        (None, None) if proof.encrypted => Caller::Stranger(Refusal::NoIdentity),
        (None, None) => Caller::Unknown,
    }
}
