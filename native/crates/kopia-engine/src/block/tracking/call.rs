//! One gRPC call: HTTP/2 over TLS by `h2` and `tokio-rustls`, which the object stores' client links already.

use super::super::changed::ChangedBlocks;
use super::ChangedBlocksQuery;
use super::messages::{Answer, put_number, put_text, read_answer};
use crate::cancel::CancelToken;
use crate::error::{Error, ErrorKind, Result};
use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const SERVICE: &str = "/snapshotmetadata.SnapshotMetadata";
/// To connect, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// Largest message that is believed; a sidecar sends some hundred ranges in one.
const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Between two looks at the cancel token.
const LOOK: Duration = Duration::from_millis(200);
/// gRPC's words for "try again".
const UNAVAILABLE: &str = "14";

/// Why a call ended, and whether another may do better.
pub(super) struct Ended {
    pub(super) error: Error,
    pub(super) again: bool,
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self { error, again: false }
    }
}

type Outcome<T> = std::result::Result<T, Ended>;

/// What several calls for one answer share.
pub(super) struct Call<'a> {
    pub(super) query: &'a ChangedBlocksQuery,
    pub(super) cancel: &'a CancelToken,
    pub(super) deadline: Instant,
    pub(super) ranges_max: u64,
    /// Where the next call goes on.
    pub(super) next_offset: u64,
    /// Whether ranges came in order: only then can an answer be gone on with.
    pub(super) ordered: bool,
    pub(super) ranges: u64,
    /// Type and capacity that the first message told: all others must.
    pub(super) shape: Option<(u64, i64)>,
}

impl Call<'_> {
    /// Asks, and marks what comes.
    pub(super) async fn run(&mut self, blocks: &mut ChangedBlocks) -> Outcome<()> {
        let tls = self.within(CONNECT, self.connect()).await??;
        let handshake = h2::client::Builder::new().handshake(tls);
        let (client, connection) = self.within(CONNECT, handshake).await?.map_err(broken)?;
        let driving = tokio::spawn(connection);
        let done = self.exchange(client, blocks).await;
        driving.abort();
        done
    }

    async fn connect(&self) -> Outcome<TlsStream<TcpStream>> {
        let (host, port) = host_and_port(&self.query.address)?;
        let config = client_config(&self.query.authority)?;
        let name = ServerName::try_from(host.clone())
            .map_err(|_| Error::new(ErrorKind::InvalidArgument, format!("{host:?} is no host name")))?;
        let socket = TcpStream::connect((host.as_str(), port)).await.map_err(broken)?;
        // A certificate that is not trusted will not be so a second later.
        let refused = |error: std::io::Error| {
            let again = error.kind() != std::io::ErrorKind::InvalidData;
            Ended { again, ..broken(error) }
        };
        TlsConnector::from(Arc::new(config)).connect(name, socket).await.map_err(refused)
    }

    async fn exchange(
        &mut self,
        client: h2::client::SendRequest<Bytes>,
        blocks: &mut ChangedBlocks,
    ) -> Outcome<()> {
        let patience = self.query.patience;
        let (method, message) = self.request()?;
        let mut client = self.within(patience, client.ready()).await?.map_err(broken)?;
        let request = http::Request::post(format!("https://{}{SERVICE}/{method}", self.query.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(());
        let request = request.map_err(|error| Error::new(ErrorKind::InvalidArgument, error.to_string()))?;
        let (response, mut sending) = client.send_request(request, false).map_err(broken)?;
        sending.send_data(framed(&message), true).map_err(broken)?;
        let response = self.within(patience, response).await?.map_err(broken)?;
        if response.headers().contains_key("grpc-status") {
            return status(response.headers());
        }
        if !response.status().is_success() {
            let message = format!("answered with HTTP status {}", response.status());
            return Err(Ended { error: Error::new(ErrorKind::Storage, message), again: true });
        }
        self.receive(response.into_body(), blocks).await
    }

    /// The name of the method, and its message.
    fn request(&self) -> Result<(&'static str, Vec<u8>)> {
        let query = self.query;
        let token = std::fs::read_to_string(&query.token_path).map_err(|error| {
            let message = format!("cannot read the token {}", query.token_path.display());
            Error::new(ErrorKind::Filesystem, message).caused_by(error)
        })?;
        let mut message = Vec::new();
        put_text(1, token.trim(), &mut message);
        put_text(2, &query.namespace, &mut message);
        if query.base.is_empty() {
            put_text(3, &query.snapshot, &mut message);
            put_number(4, self.next_offset, &mut message);
            return Ok(("GetMetadataAllocated", message));
        }
        put_text(3, &query.base, &mut message);
        put_text(4, &query.snapshot, &mut message);
        put_number(5, self.next_offset, &mut message);
        Ok(("GetMetadataDelta", message))
    }

    async fn receive(&mut self, mut body: RecvStream, blocks: &mut ChangedBlocks) -> Outcome<()> {
        let mut buffer = BytesMut::new();
        while let Some(chunk) = self.within(self.query.patience, body.data()).await? {
            let chunk = chunk.map_err(broken)?;
            body.flow_control().release_capacity(chunk.len()).map_err(broken)?;
            buffer.extend_from_slice(&chunk);
            while let Some(message) = take_message(&mut buffer)? {
                self.mark(&read_answer(&message)?, blocks)?;
            }
        }
        let trailers = self.within(self.query.patience, body.trailers()).await?.map_err(broken)?;
        match trailers {
            Some(_) if !buffer.is_empty() => Err(cut_off()),
            Some(trailers) => status(&trailers),
            None => Err(cut_off()),
        }
    }

    fn mark(&mut self, answer: &Answer, blocks: &mut ChangedBlocks) -> Result<()> {
        let shape = (answer.block_type, answer.capacity_bytes);
        if !matches!(answer.block_type, 1 | 2) || *self.shape.get_or_insert(shape) != shape {
            let message = format!("told blocks of type {} and a volume of {} bytes", shape.0, shape.1);
            return Err(Error::new(ErrorKind::Storage, message));
        }
        for range in &answer.ranges {
            blocks.mark(range.offset, range.length)?;
            let (start, end) = (range.offset.cast_unsigned(), (range.offset + range.length).cast_unsigned());
            self.ordered &= start >= self.next_offset;
            self.next_offset = if self.ordered { end } else { 0 };
            self.ranges += 1;
        }
        if self.ranges > self.ranges_max {
            let message = format!("told {} ranges, more than the device can have", self.ranges);
            return Err(Error::new(ErrorKind::Storage, message));
        }
        Ok(())
    }

    /// Waits for `work`, as long as it may take; sees a cancel meanwhile.
    async fn within<T>(&self, patience: Duration, work: impl Future<Output = T>) -> Outcome<T> {
        let end = (Instant::now() + patience).min(self.deadline);
        let mut work = std::pin::pin!(work);
        loop {
            if let Ok(done) = tokio::time::timeout(LOOK, &mut work).await {
                return Ok(done);
            }
            self.cancel.check()?;
            if Instant::now() >= end {
                let message = format!("did not answer for {} seconds", patience.as_secs());
                return Err(Ended { error: Error::new(ErrorKind::Storage, message), again: false });
            }
        }
    }
}

fn host_and_port(address: &str) -> Result<(String, u16)> {
    let parts = address.rsplit_once(':');
    let parsed = parts.and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse().ok()?)));
    match parsed {
        Some((host, port)) if !host.is_empty() => Ok((host.to_owned(), port)),
        _ => Err(Error::new(ErrorKind::InvalidArgument, format!("{address:?} is not HOST:PORT"))),
    }
}

fn client_config(authority: &str) -> Result<ClientConfig> {
    let invalid = |why: String| {
        let message = format!("the CA certificate of the changed-block service cannot be used: {why}");
        Error::new(ErrorKind::InvalidArgument, message)
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
        roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(invalid("it holds none".into()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| invalid(error.to_string()))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// gRPC's frame around a message: not compressed, its length.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(message);
    frame.into()
}

/// The first message of the buffer, if it is whole.
fn take_message(buffer: &mut BytesMut) -> Result<Option<Bytes>> {
    let Some(head) = buffer.first_chunk::<5>() else { return Ok(None) };
    let [compressed, length @ ..] = *head;
    let length = u32::from_be_bytes(length) as usize;
    if compressed != 0 || length > MESSAGE_BYTES_MAX {
        let message = format!("sent a message of {length} bytes, or a compressed one: neither was asked for");
        return Err(Error::new(ErrorKind::Storage, message));
    }
    if buffer.len() < 5 + length {
        return Ok(None);
    }
    buffer.advance(5);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// How the call ended, from its trailers.
fn status(trailers: &HeaderMap) -> Outcome<()> {
    let text = |name| trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (code, message) = (text("grpc-status"), text("grpc-message"));
    let kind = match code {
        "0" => return Ok(()),
        "7" | "16" => ErrorKind::AccessDenied,
        _ => ErrorKind::Storage,
    };
    let message: String = message.chars().take(400).collect();
    let error = Error::new(kind, format!("answered with gRPC status {code:.8}: {message}"));
    Err(Ended { error, again: code == UNAVAILABLE })
}

fn cut_off() -> Ended {
    Ended { error: Error::new(ErrorKind::Storage, "the answer was cut off"), again: true }
}

fn broken(error: impl std::fmt::Display) -> Ended {
    Ended { error: Error::new(ErrorKind::Storage, format!("the connection failed: {error}")), again: true }
}
