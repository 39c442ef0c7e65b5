//! The filters that scripts name, in one table: what each is called, whether others stand behind it, and how it is made.
//!
//! To add one: a file (or a place in the file of its family) with a [`FilterDef`], and a row here. `pipy --list-filters` and
//! the builders of the prelude read this table.

use std::rc::Rc;

use rquickjs::Result;

use crate::layout::{FilterDef, Reading};

pub(crate) use connect::duration;
pub use options::options_of;
pub(crate) use swap::Hub;
pub(crate) use values::{as_value, is_end};

mod again;
pub(crate) mod alone;
mod ask;
mod bytes;
mod choose;
mod codec;
mod compress;
mod connect;
pub(crate) mod datagrams;
mod deframe;
mod demux;
mod deposit;
mod detect;
mod exec;
mod fastcgi;
mod flow;
mod handle;
mod handshake;
pub(crate) mod http;
mod http_codec;
pub(crate) mod listening;
mod multipart;
mod mux;
mod mux_http;
pub(crate) mod once;
pub(crate) mod opening;
pub(crate) mod options;
mod parts;
mod proxy_protocol;
mod race;
mod socks;
mod stages;
mod sub;
mod swap;
mod tee;
mod throttle;
mod tls;
mod tls_config;
mod tunnel;
mod values;

/// Whether a filter leads to pipelines of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joint {
    /// No.
    No,
    /// One, named by `.to(…)`.
    To,
    /// One, which may be left out.
    Optional,
    /// Conditions and pipelines by turns.
    Branches,
}

/// A row of the table.
pub struct Entry {
    /// What scripts call it.
    pub name: &'static str,
    /// Whether it leads to pipelines.
    pub joint: Joint,
    /// What it does, in a line.
    pub help: &'static str,
    pub(crate) make: fn(&Reading<'_, '_>) -> Result<Rc<dyn FilterDef>>,
}

macro_rules! table {
    ($($name:literal $joint:ident $make:path, $help:literal;)*) => {
        &[$(Entry { name: $name, joint: Joint::$joint, help: $help, make: $make }),*]
    };
}

/// Every filter that a script can name.
pub const TABLE: &[Entry] = table! {
    "handle" No handle::handle, "calls back with each event";
    "handleStreamStart" No handle::handle, "calls back with the first event";
    "handleStreamEnd" No handle::handle, "calls back with the end of the stream";
    "handleData" No handle::handle, "calls back with each piece of data";
    "handleMessageStart" No handle::handle, "calls back with the start of each message; its head may be changed";
    "handleMessageEnd" No handle::handle, "calls back with the end of each message";
    "handleMessage" No handle::handle, "calls back with each message, whole; holds nothing back";
    "handleMessageBody" No handle::handle, "calls back with the body of each message";
    "replace" No handle::handle, "puts what the callback returns in place of each event";
    "replaceStreamStart" No handle::handle, "replaces the first event";
    "replaceStreamEnd" No handle::handle, "replaces the end of the stream";
    "replaceData" No handle::handle, "replaces each piece of data";
    "replaceMessageStart" No handle::handle, "replaces the start of each message";
    "replaceMessageEnd" No handle::handle, "replaces the end of each message";
    "replaceMessage" No handle::handle, "replaces each message, whole";
    "replaceMessageBody" No handle::handle, "replaces the body of each message";
    "demuxHTTP" To http::demux, "reads HTTP requests, runs each through a pipeline, writes the responses";
    "serveHTTP" No http::serve, "answers HTTP requests";
    "muxHTTP" To mux_http::make, "sends HTTP requests over shared connections and gives the responses";
    "connect" No connect::make, "connects to an address: what goes in is sent, what comes back goes on";
    "branch" Branches choose::branch, "goes the way of the first condition that holds";
    "branchMessageStart" Branches choose::branch, "goes the way of the first condition that holds for the start of a message";
    "branchMessage" Branches choose::branch, "goes the way of the first condition that holds for a message";
    "link" Optional choose::link, "goes on in another pipeline of this file";
    "linkAsync" Optional choose::link, "the same as link, in a context of its own";
    "pipe" No choose::pipe, "goes on in the pipeline that is named or chosen";
    "pipeNext" No choose::pipe_next, "goes on in the next stage of the pipe around";
    "use" No choose::use_file, "goes on in a pipeline of another file";
    "chain" No choose::chain, "goes through the entrance pipelines of files, one after the other";
    "acceptHTTPTunnel" To tunnel::accept, "opens a tunnel for CONNECT and Upgrade: its bytes go through a pipeline";
    "connectHTTPTunnel" To tunnel::connect, "asks a server for a tunnel, and sends bytes through it";
    "replay" To again::make, "runs a pipeline again with the same input when it ends with 'Replay'";
    "repeat" To again::make, "runs a pipeline again with the same input for as long as a callback wants it";
    "acceptTLS" To tls::make, "ends TLS: what is inside goes through a pipeline";
    "connectTLS" To tls::make, "begins TLS: what goes in is encrypted for a pipeline that leads to the server";
    "demux" To demux::make, "runs each message through a pipeline of its own; answers leave in order";
    "demuxQueue" To demux::make, "the same as demux";
    "mux" To mux::make, "sends messages of many streams through pipelines that they share by key";
    "muxQueue" To mux::make, "the same as mux, with as many messages at once as come";
    "acceptSOCKS" To socks::accept, "takes SOCKS 4, 4a and 5: what a callback allows goes through a pipeline";
    "connectSOCKS" To socks::connect, "asks a SOCKS 5 server for a way, and sends bytes through it";
    "merge" To mux::make, "sends messages of many streams into pipelines that they share by key; nothing comes back";
    "acceptProxyProtocol" To proxy_protocol::make, "takes the PROXY header: a callback is told what it says and whether to go on";
    "connectProxyProtocol" To proxy_protocol::make, "sends a PROXY header before the bytes";
    "demuxFastCGI" To fastcgi::demux, "reads FastCGI requests, runs each through a pipeline, writes the answers";
    "muxFastCGI" To mux::make, "sends FastCGI requests over shared connections and gives the answers";
    "insert" No bytes::source, "puts events before the first that comes";
    "produce" No bytes::source, "drops what comes and gives what a callback returns, until that is nothing";
    "tee" No tee::make, "copies data into a file";
    "read" No bytes::read, "gives the content of a file in place of what comes";
    "deframe" No deframe::make, "reads bytes by a state machine of the script's own";
    "exec" No exec::make, "runs a program: what comes in is its input, its output goes on";
    "depositMessage" No deposit::make, "keeps bodies in a file until they are complete";
    "split" No parts::split, "makes a message of each part between separators";
    "pack" No parts::pack, "joins the bodies of messages, so many at a time";
    "throttleMessageRate" No throttle::make, "lets messages pass as a quota allows; what is over it waits";
    "throttleDataRate" No throttle::make, "lets bytes pass as a quota allows; what is over it waits";
    "throttleConcurrency" No throttle::make, "lets pipelines begin as a quota allows; each gives back what it took";
    "detectProtocol" No detect::make, "calls back with HTTP, HTTP2, TLS or '' once the first bytes tell";
    "handleTLSClientHello" No detect::make, "calls back with the names in a ClientHello, which passes on";
    "dummy" No flow::dummy, "drops everything";
    "dump" No flow::dump, "writes each event to the log";
    "print" No flow::print, "writes data to standard output";
    "fork" To flow::fork, "copies every event into another pipeline; what comes of that is dropped";
    "forkJoin" To race::make, "copies every event into branches, and goes on when all have ended";
    "forkRace" To race::make, "copies every event into branches, and gives what the first of them produces";
    "loop" To swap::looping, "gives what a pipeline produces, and gives it back into that pipeline";
    "swap" No swap::swap, "exchanges events with every other pipeline at the same hub";
    "input" To swap::input, "runs a pipeline, and gives what is sent to its handle";
    "output" No swap::output, "sends events to the handle of an input";
    "wait" No flow::wait, "holds everything back until a condition holds";
    "compress" No compress::make, "packs bodies, or a stream outside of messages: gzip, deflate or br";
    "decompress" No compress::make, "unpacks bodies, or a stream outside of messages";
    "compressMessage" No compress::make, "the older name of compress";
    "decompressMessage" No compress::make, "the older name of decompress";
    "compressHTTP" No compress::make, "packs the bodies of HTTP messages that are not packed yet, and says so in their heads";
    "decompressHTTP" No compress::make, "unpacks the bodies of HTTP messages as their heads say";
    "decodeHTTPRequest" No http_codec::make, "reads HTTP/1 requests";
    "encodeHTTPRequest" No http_codec::make, "writes HTTP/1 requests";
    "decodeHTTPResponse" No http_codec::make, "reads HTTP/1 responses; a callback tells the head of the request";
    "encodeHTTPResponse" No http_codec::make, "writes HTTP/1 responses; a callback tells the head of the request";
    "decodeMultipart" No multipart::make, "makes messages of the parts of a body, in the payload of the message";
    "decodeMQTT" No codec::make, "reads MQTT messages";
    "encodeMQTT" No codec::make, "writes MQTT messages";
    "decodeRESP" No codec::make, "reads RESP messages";
    "encodeRESP" No codec::make, "writes RESP messages";
    "decodeDubbo" No codec::make, "reads Dubbo messages";
    "encodeDubbo" No codec::make, "writes Dubbo messages";
    "decodeThrift" No codec::make, "reads Thrift messages";
    "encodeThrift" No codec::make, "writes Thrift messages";
    "decodeBGP" No codec::make, "reads BGP messages";
    "encodeBGP" No codec::make, "writes BGP messages";
    "decodeNetlink" No codec::make, "reads Netlink messages";
    "encodeNetlink" No codec::make, "writes Netlink messages";
    "decodeWebSocket" No codec::make, "reads WebSocket frames as messages";
    "encodeWebSocket" No codec::make, "writes messages as WebSocket frames";
};
