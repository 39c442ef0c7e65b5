//! Outbound matches by destination.
//!
//! In: the matches of a plan. Out: the one for an address and a port. Most matches name single addresses, those of Services
//! and Pods: they are looked up by hash, so that a mesh of a thousand services on one port costs a connection no more than
//! one of two. Networks and "any address" are tried in turn; there are few.
//!
//! INVARIANT: the answer is that of trying all matches of the port in their order, those without destinations last.

use std::net::{IpAddr, SocketAddr};

use foldhash::HashMap;
use ipnet::IpNet;

use crate::plan::OutboundMatch;

/// See the module.
#[derive(Debug, Default)]
pub struct OutboundTable {
    ports: HashMap<u16, Rules>,
}

#[derive(Debug, Default)]
struct Rules {
    /// In the order in which they are tried.
    rules: Vec<OutboundMatch>,
    /// The first rule that names an address.
    exact: HashMap<IpAddr, usize>,
    /// Networks, with the rules that name them. `None`: any address.
    networks: Vec<(Option<IpNet>, usize)>,
}

impl OutboundTable {
    pub(crate) fn new(rules: impl IntoIterator<Item = (u16, OutboundMatch)>) -> Self {
        let mut table = OutboundTable::default();
        for (port, rule) in rules {
            table.ports.entry(port).or_default().rules.push(rule);
        }
        table.ports.values_mut().for_each(Rules::index);
        table
    }

    /// The match for a destination.
    pub fn find(&self, destination: SocketAddr) -> Option<&OutboundMatch> {
        self.ports.get(&destination.port())?.find(destination.ip())
    }
}

impl Rules {
    fn index(&mut self) {
        self.rules.sort_by_key(|rule| rule.destinations.is_empty());
        self.rules.shrink_to_fit();
        for (position, rule) in self.rules.iter().enumerate() {
            if rule.destinations.is_empty() {
                self.networks.push((None, position));
            }
            for net in &rule.destinations {
                if net.prefix_len() == net.max_prefix_len() {
                    self.exact.entry(net.addr()).or_insert(position);
                } else {
                    self.networks.push((Some(*net), position));
                }
            }
        }
    }

    fn find(&self, address: IpAddr) -> Option<&OutboundMatch> {
        let exact = self.exact.get(&address).copied();
        // A network that stands before the address wins over it.
        let before = self.networks.iter().take_while(|(_, position)| exact.is_none_or(|e| *position < e));
        let network = before
            .into_iter()
            .find(|(net, _)| net.is_none_or(|net| net.contains(&address)))
            .map(|(_, position)| *position);
        self.rules.get(network.or(exact)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Plan;

    /// A small world of addresses and networks, in which every order of rules is likely to matter.
    const NETS: [&str; 7] =
        ["10.0.0.1/32", "10.0.0.2/32", "10.0.0.0/30", "10.0.0.0/8", "0.0.0.0/0", "fd00::1/128", "fd00::/16"];
    const ADDRESSES: [&str; 6] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.9.9.9", "fd00::1", "2001:db8::1"];

    fn plan(lists: &[Vec<&str>]) -> Plan {
        let matches: Vec<String> = lists
            .iter()
            .enumerate()
            .map(|(i, nets)| {
                format!(r#"{{"port":80,"destinations":{nets:?},"protocol":"http","origin":"Service/x/{i}"}}"#)
            })
            .collect();
        let json = format!(r#"{{"version":"1","outbound":{{"matches":[{}]}}}}"#, matches.join(","));
        Plan::new(pipy_config::parse(json.as_bytes()).expect("a valid configuration"))
    }

    fn naive(lists: &[Vec<&str>], address: IpAddr) -> Option<usize> {
        let covers = |nets: &Vec<&str>| {
            nets.iter().any(|net| net.parse::<IpNet>().expect("a network").contains(&address))
        };
        let named = lists.iter().position(covers);
        named.or_else(|| lists.iter().position(Vec::is_empty))
    }

    #[test]
    fn the_index_answers_what_trying_each_match_in_turn_would() {
        let mut dice = pipy_testkit::Dice::new(7);
        for round in 0..2_000 {
            let lists: Vec<Vec<&str>> = (0..dice.below(6))
                .map(|_| (0..dice.below(4)).map(|_| NETS[dice.below(NETS.len())]).collect())
                .collect();
            let plan = plan(&lists);
            let table = &plan.outbound.as_ref().expect("an outbound side").matches;
            for address in ADDRESSES {
                let address: IpAddr = address.parse().expect("an address");
                let found = table.find((address, 80).into()).map(|rule| rule.origin.to_string());
                let expected = naive(&lists, address).map(|i| format!("Service/x/{i}"));
                assert_eq!(found, expected, "round {round}: {address} in {lists:?}");
                assert!(table.find((address, 81).into()).is_none());
            }
        }
    }
}
