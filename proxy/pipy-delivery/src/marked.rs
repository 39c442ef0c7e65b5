//! TCP connections that carry a packet mark, so that the Pod's redirection knows them as the sidecar's own.
//!
//! Takes the place of the HTTP library's own TCP step, whose sockets cannot be touched before they connect. One
//! connection in use at a time, blocking, with the time limits that the library asks for.
//!
//! Not here: TLS (the library's next step), which addresses there are (its resolver).

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Weak};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};
use ureq::{Error, Timeout};

/// Makes the connections.
#[derive(Debug)]
pub(crate) struct MarkedConnector {
    /// The mark; none needs no privilege.
    pub(crate) mark: Option<u32>,
}

impl Connector for MarkedConnector {
    type Out = MarkedTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        let limit = details.timeout.not_zero().map(|limit| *limit);
        let mut last = Error::HostNotFound;
        for address in details.addrs.iter() {
            match self.dial(*address, limit) {
                Ok(stream) => {
                    let socket = Arc::new(Stream(stream));
                    let weak: Weak<Stream> = Arc::downgrade(&socket);
                    (details.register_shutdown)(weak)?;
                    let config = details.config;
                    let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
                    return Ok(Some(MarkedTransport { socket, buffers }));
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    last = Error::Timeout(Timeout::Connect)
                }
                Err(error) => last = Error::Io(error),
            }
        }
        Err(last)
    }
}

impl MarkedConnector {
    fn dial(&self, address: SocketAddr, limit: Option<Duration>) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        socket.set_tcp_nodelay(true)?;
        match limit {
            Some(limit) => socket.connect_timeout(&address.into(), limit)?,
            None => socket.connect(&address.into())?,
        }
        Ok(socket.into())
    }
}

#[derive(Debug)]
struct Stream(TcpStream);

impl ShutdownHandle for Stream {
    fn shutdown(&self) {
        // A socket that is closed already needs no more.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct MarkedTransport {
    socket: Arc<Stream>,
    buffers: LazyBuffers,
}

impl Transport for MarkedTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.socket.0.set_write_timeout(timeout.not_zero().map(|limit| *limit))?;
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        (&self.socket.0).write_all(output).map_err(|error| failure(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.socket.0.set_read_timeout(timeout.not_zero().map(|limit| *limit))?;
        let input = self.buffers.input_append_buf();
        let read = loop {
            match (&self.socket.0).read(input) {
                // The limit begins anew, which a signal now and then may cost.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(|error| failure(error, timeout))?,
            }
        };
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        // Nothing may wait to be read on a kept connection: neither an end nor an answer that nobody asked for.
        let socket = &self.socket.0;
        let quiet = socket.set_nonblocking(true).is_ok()
            && matches!(socket.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        socket.set_nonblocking(false).is_ok() && quiet
    }
}

/// The operating system says "would block" where a time limit of a blocking socket is over.
fn failure(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => Error::Io(error),
    }
}
