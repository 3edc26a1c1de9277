//! A client that sends exact bytes, and notices exactly what came back.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::wire::{End, Head, Wire};
use super::{Fender, PATIENCE};

pub(crate) struct Client<S = TcpStream> {
    wire: Wire<S>,
}

const INTERIM_MAX: usize = 200;

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A whole answer, however it ended.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) head: Head,
    pub(crate) informational: Vec<Head>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) end: End,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the listener accepts");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// Whose system takes next to nothing ahead.
    pub(crate) fn connect_narrow(address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).expect("the listener accepts");
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::over(socket.into())
    }

    /// None if nobody listens.
    pub(crate) fn try_connect(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Self::over(stream))
    }

    /// A second hand on the connection, to send while this one reads.
    pub(crate) fn sender(&self) -> TcpStream {
        self.wire.stream().try_clone().unwrap()
    }

    /// No more will be sent; answers are still read.
    pub(crate) fn half_close(&mut self) {
        self.wire.stream().shutdown(Shutdown::Write).unwrap();
    }
}

impl Client<TlsStream> {
    /// The handshake is done with the first bytes; a refused one shows as a connection that ended.
    pub(crate) fn connect_tls(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the listener accepts");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let session = ClientConnection::new(config, name.to_owned().try_into().unwrap()).unwrap();
        Self::over(StreamOwned::new(session, stream))
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { wire: Wire::new(stream) }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.send(bytes)
    }

    /// A whole exchange on this connection.
    pub(crate) fn request(&mut self, method: &str, target: &str, fields: &str, body: &[u8]) -> Response {
        self.send([request_head(method, target, fields, body).as_bytes(), body].concat());
        self.response(method)
    }

    /// The next head, a 1xx too; none if the connection ended.
    pub(crate) fn head(&mut self) -> Option<Head> {
        self.wire.head()
    }

    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        self.wire.chunk()
    }

    pub(crate) fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        self.wire.exactly(count)
    }

    /// The answer to the request with this method.
    pub(crate) fn response(&mut self, method: &str) -> Response {
        self.try_response(method).unwrap_or_else(|| {
            panic!(
                "the connection ended without an answer, after {:?}",
                String::from_utf8_lossy(self.wire.seen())
            )
        })
    }

    /// None if the connection ended before a whole head.
    pub(crate) fn try_response(&mut self, method: &str) -> Option<Response> {
        let mut informational = Vec::new();
        let head = loop {
            let head = self.wire.head()?;
            if head.status() >= 200 || head.status() == 101 {
                break head;
            }
            informational.push(head);
            assert!(
                informational.len() <= INTERIM_MAX,
                "an endless train of interim answers reaches the client"
            );
        };
        let body = self.wire.response_body(method, &head);
        Some(Response { head, informational, body: body.bytes, trailers: body.trailers, end: body.end })
    }

    /// Reads on until the other side hangs up.
    pub(crate) fn until_closed(&mut self) -> End {
        self.wire.until_closed()
    }
}

pub(crate) fn request_head(method: &str, target: &str, fields: &str, body: &[u8]) -> String {
    let length = match body.len() {
        0 => String::new(),
        length => format!("content-length: {length}\r\n"),
    };
    format!("{method} {target} HTTP/1.1\r\nhost: app.test\r\n{length}{fields}\r\n")
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    pub(crate) fn field(&self, name: &str) -> String {
        self.head.field(name).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// This is Fender's own answer, whole and in order, for this reason.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, reason: &str) {
        let whole = format!("{:?} {:?} {}", self.head.line, self.head.fields, self.text());
        assert_eq!((self.status(), self.field("fender-reason").as_str()), (status, reason), "{whole}");
        assert_eq!(self.field("content-type"), "application/problem+json", "{whole}");
        assert!(!self.field("fender-request-id").is_empty(), "{whole}");
        assert_eq!(self.end, End::Clean, "{whole}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{whole}");
        assert_eq!(problem["reason"], reason, "{whole}");
        for member in ["type", "title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "no {member}: {whole}");
        }
        assert!(problem.get("upstream").is_some(), "no upstream: {whole}");
        assert!(!whole.contains("127.0.0.1"), "it shows an address: {whole}");
    }
}

impl Fender {
    /// A connection to the first listener.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.server())
    }

    /// One request on a connection of its own.
    pub(crate) fn get(&self, target: &str) -> Response {
        self.client().request("GET", target, "", b"")
    }

    pub(crate) fn post(&self, target: &str, fields: &str, body: &[u8]) -> Response {
        self.client().request("POST", target, fields, body)
    }

    /// Sends these bytes and nothing else, and gives the first answer.
    pub(crate) fn raw(&self, bytes: impl AsRef<[u8]>) -> (Response, Client) {
        let mut client = self.client();
        client.send(bytes);
        (client.response("GET"), client)
    }

    /// One request to the admin listener.
    pub(crate) fn admin_get(&self, target: &str) -> Response {
        Client::connect(self.admin()).request("GET", target, "", b"")
    }

    pub(crate) fn admin_post(&self, target: &str, token: Option<&str>) -> Response {
        let fields = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
        Client::connect(self.admin()).request("POST", target, &format!("content-length: 0\r\n{fields}"), b"")
    }
}
