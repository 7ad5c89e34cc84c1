//! The HTTP server: glommio's sockets under hyper.

use super::args::Args;
use super::http::{Answer, Endpoint, Facts, index};
use super::process::Meter;
use super::status::{Site, Snapshot, StatusSource};
use super::{connections, health, jetstream, others, subscriptions};
use crate::config::options::HttpOptions;
use crate::inspect::{Page, Query, Subscription};
use crate::types::WallTime;
use futures_lite::io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use glommio::timer::{sleep, timeout};
use glommio::{ExecutorJoinHandle, GlommioError, LocalExecutorBuilder, Placement};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::rt::ReadBufCursor;
use hyper::service::service_fn;
use hyper::{Request, Response};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream as StdStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Connections served at once; more wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 64;
/// Descriptors that it opens at most once it runs: its connections, and `/proc` files.
pub const DESCRIPTORS_MAX: usize = CONNECTIONS_MAX + 4;
/// Connections waiting to be accepted.
const BACKLOG: i32 = 128;
/// How long one connection may last.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);
/// How long the reactors have to answer.
const SNAPSHOT_TIME_MAX: Duration = Duration::from_secs(2);
/// How old a snapshot may be to be shown again.
const SNAPSHOT_AGE_MAX: Duration = Duration::from_millis(50);
/// Time between two looks for the answer.
const SNAPSHOT_POLL: Duration = Duration::from_millis(1);
/// How long a listing waits for the one before it.
const LISTING_WAIT_MAX: Duration = Duration::from_secs(10);
/// Bytes of answers that are not read yet at most, but for the last one.
const UNREAD_BYTES_MAX: usize = 16 << 20;
/// Memory that the executor sets aside for direct I/O, of which there is none.
const IO_MEMORY_BYTES: usize = 64 << 10;
/// Submissions at once.
const RING_DEPTH: usize = 32;
/// Bytes of a request's line and headers.
const REQUEST_BYTES_MAX: usize = 16 << 10;
/// Bytes read at once.
const READ_BYTES: usize = 2 << 10;

/// The running server.
pub struct Control {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: ExecutorJoinHandle<()>,
}

impl Control {
    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops serving and waits for the thread's end.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        // The accept that is under way sees the flag when it ends, so give it something.
        drop(StdStream::connect_timeout(&reachable(self.address), Duration::from_secs(1)));
        // A thread that panicked has stopped as well.
        drop(self.thread.join());
    }
}

/// Where a listener on this address can be reached from here.
fn reachable(address: SocketAddr) -> SocketAddr {
    // A listener on every address takes those of IPv4 too.
    match address.ip().is_unspecified() {
        true => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        false => address,
    }
}

/// Starts the server on a thread of its own and returns once it listens.
///
/// `site` is told the port through `options.http`, which is set to the one that was bound.
pub fn start(
    http: &HttpOptions,
    mut site: Site,
    source: Box<dyn StatusSource>,
) -> io::Result<Control> {
    // Not glommio's listener: that shares its port, and an address in use must be an error.
    let listener = crate::listen::bind(&http.host, http.port, BACKLOG)?;
    let address = listener.local_addr()?;
    site.options.http = Some(HttpOptions { port: address.port(), ..http.clone() });
    let stop = Arc::new(AtomicBool::new(false));
    let seen = stop.clone();
    let (ready, running) = mpsc::channel();
    let thread = LocalExecutorBuilder::new(Placement::Unbound)
        .name("control")
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .spawn(move || async move {
            // The caller waits for this, so it hears it.
            let _ = ready.send(());
            serve(Arc::new(listener), Rc::new(Shared::new(site, source)), seen).await;
        })
        .map_err(io_error)?;
    if running.recv().is_ok() {
        return Ok(Control { address, stop, thread });
    }
    let error = thread.join().map_err(io_error).err();
    Err(error.unwrap_or_else(|| io::Error::other("the control thread ended at once")))
}

fn io_error(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(e) => e,
        other => io::Error::other(other.to_string()),
    }
}

/// What the connections share.
pub(super) struct Shared {
    pub site: Site,
    source: RefCell<Box<dyn StatusSource>>,
    /// The last snapshot, and when it came.
    last: RefCell<Option<(Instant, Rc<Snapshot>)>>,
    /// Since when one has been asked for, if one is.
    asked: Cell<Option<Instant>>,
    meter: RefCell<Meter>,
    requests: RefCell<BTreeMap<String, u64>>,
    connections: Cell<usize>,
    /// A listing is being gathered.
    gathering: Cell<bool>,
    /// Bytes of answers that are not read yet.
    unread_bytes: Arc<AtomicUsize>,
}

impl Shared {
    fn new(site: Site, source: Box<dyn StatusSource>) -> Shared {
        Shared {
            site,
            source: RefCell::new(source),
            last: RefCell::new(None),
            asked: Cell::new(None),
            meter: RefCell::new(Meter::new()),
            requests: RefCell::new(BTreeMap::new()),
            connections: Cell::new(0),
            gathering: Cell::new(false),
            unread_bytes: Arc::default(),
        }
    }

    /// A snapshot no older than allowed; `None` if nobody answers in time.
    pub(super) async fn snapshot(&self) -> Option<Rc<Snapshot>> {
        let begun = Instant::now();
        loop {
            if let Some((at, snapshot)) = &*self.last.borrow()
                && (at.elapsed() <= SNAPSHOT_AGE_MAX || *at >= begun)
            {
                return Some(snapshot.clone());
            }
            if begun.elapsed() > SNAPSHOT_TIME_MAX {
                return None;
            }
            self.look();
            let fresh = self.last.borrow().as_ref().is_some_and(|(at, _)| *at >= begun);
            if !fresh {
                sleep(SNAPSHOT_POLL).await;
            }
        }
    }

    /// Asks, unless a question is under way, and takes the answer if it is there.
    fn look(&self) {
        let mut source = self.source.borrow_mut();
        if self.asked.get().is_none_or(|at| at.elapsed() > SNAPSHOT_TIME_MAX) {
            source.ask();
            self.asked.set(Some(Instant::now()));
        }
        if let Some(snapshot) = source.poll() {
            *self.last.borrow_mut() = Some((Instant::now(), Rc::new(snapshot)));
            self.asked.set(None);
        }
    }

    pub(super) fn reactors(&self) -> usize {
        self.source.borrow().reactors()
    }

    /// A page of one reactor; `None` if it does not answer in time.
    pub(super) async fn inspect(&self, reactor: usize, query: Query) -> Option<Page> {
        let (answer, page) = mpsc::channel();
        // Nobody listens any more where the answer comes too late.
        let answer = Box::new(move |page| drop(answer.send(page)));
        if !self.source.borrow_mut().inspect(reactor, query, answer) {
            return None;
        }
        let begun = Instant::now();
        while begun.elapsed() < SNAPSHOT_TIME_MAX {
            if let Ok(page) = page.try_recv() {
                return Some(page);
            }
            sleep(SNAPSHOT_POLL).await;
        }
        None
    }

    /// Up to `most` subscriptions: of these connections or all, that match `subject` or all. And
    /// how many there are.
    pub(super) async fn subscriptions(
        &self,
        of: &[u64],
        subject: &[u8],
        most: usize,
    ) -> Option<(Vec<Subscription>, u64)> {
        let (mut found, mut total) = (Vec::new(), 0);
        for reactor in 0..self.reactors() {
            let mut next = Some(0);
            while let Some(from) = next {
                let (of, subject) = (of.to_vec(), subject.to_vec());
                let query = Query::Subscriptions { from, of, subject };
                let Page::Subscriptions(page, more) = self.inspect(reactor, query).await? else {
                    return None;
                };
                total += page.len() as u64;
                let room = most - found.len();
                found.extend(page.into_iter().take(room));
                next = more;
            }
        }
        Some((found, total))
    }

    async fn respond(&self, path: &str, query: Option<&str>) -> Answer {
        let base = self.site.options.http.as_ref().map_or("", |http| http.base_path.as_str());
        let endpoint = Endpoint::of(path, base);
        if let Some(name) = endpoint.counted_as() {
            *self.requests.borrow_mut().entry(name.to_owned()).or_default() += 1;
        }
        if self.unread_bytes.load(Ordering::Relaxed) > UNREAD_BYTES_MAX {
            return Answer::busy();
        }
        let args = Args::parse(query);
        match endpoint {
            Endpoint::Index => index(),
            Endpoint::Unknown => Answer::not_found(),
            Endpoint::Routez => others::routez(self, &args, now()),
            Endpoint::Gatewayz => others::gatewayz(self, &args, now()),
            Endpoint::Leafz => others::leafz(self, &args, now()),
            Endpoint::Raftz => others::raftz(),
            Endpoint::Ipqueuesz => others::ipqueuesz(),
            Endpoint::Healthz => health::answer(self, &args).await,
            Endpoint::Accstatz => others::accstatz(self, &args, now()).await,
            Endpoint::Accountz => others::accountz(self, &args, now()).await,
            Endpoint::Varz | Endpoint::Metrics => self.figures(endpoint).await,
            Endpoint::Connz | Endpoint::Subsz | Endpoint::Jsz => {
                self.listing(endpoint, &args).await
            }
        }
    }

    async fn figures(&self, endpoint: Endpoint) -> Answer {
        let Some(snapshot) = self.snapshot().await else { return Answer::silent() };
        let usage = self.meter.borrow_mut().read();
        let requests = self.requests.borrow();
        let facts = Facts { site: &self.site, usage, requests: &requests, now: now() };
        match endpoint {
            Endpoint::Metrics => facts.metrics(&snapshot),
            _ => facts.varz(&snapshot),
        }
    }

    /// One listing at a time, so that only one is held while it is gathered.
    async fn listing(&self, endpoint: Endpoint, args: &Args<'_>) -> Answer {
        let begun = Instant::now();
        while self.gathering.replace(true) {
            if begun.elapsed() > LISTING_WAIT_MAX {
                return Answer::busy();
            }
            sleep(SNAPSHOT_POLL).await;
        }
        let _over = Gathering(&self.gathering);
        match endpoint {
            Endpoint::Connz => connections::answer(self, args, now()).await,
            Endpoint::Subsz => subscriptions::answer(self, args, now()).await,
            _ => jetstream::answer(self, args, now()).await,
        }
    }
}

/// Ends a listing, also where its connection is given up in the middle.
struct Gathering<'a>(&'a Cell<bool>);

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// An answer's text, counted while it is not read.
struct Unread {
    text: String,
    sum: Arc<AtomicUsize>,
}

impl Unread {
    fn new(text: String, sum: &Arc<AtomicUsize>) -> Unread {
        sum.fetch_add(text.len(), Ordering::Relaxed);
        Unread { text, sum: sum.clone() }
    }
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.sum.fetch_sub(self.text.len(), Ordering::Relaxed);
    }
}

fn now() -> WallTime {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    WallTime(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

async fn serve(listener: Arc<TcpListener>, shared: Rc<Shared>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Acquire) {
        if shared.connections.get() >= CONNECTIONS_MAX {
            sleep(Duration::from_millis(10)).await;
            continue;
        }
        let accepting = listener.clone();
        let accepted = glommio::executor().spawn_blocking(move || accepting.accept()).await;
        let Ok((stream, _)) = accepted else {
            // Out of files, most likely: that passes.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let stream = TcpStream::from(socket2::Socket::from(stream));
        shared.connections.set(shared.connections.get() + 1);
        let shared = shared.clone();
        glommio::spawn_local(async move {
            // A connection that fails or lasts too long is closed, and that is all there is to do.
            let _ = timeout(CONNECTION_TIME_MAX, connection(stream, &shared)).await;
            shared.connections.set(shared.connections.get() - 1);
        })
        .detach();
    }
}

async fn connection(stream: TcpStream, shared: &Rc<Shared>) -> Result<(), GlommioError<()>> {
    let service = service_fn(|request: Request<Incoming>| {
        let shared = shared.clone();
        async move {
            let uri = request.uri();
            let answer = shared.respond(uri.path(), uri.query()).await;
            Ok::<_, Infallible>(response(answer, &shared.unread_bytes))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.max_buf_size(REQUEST_BYTES_MAX).header_read_timeout(None).title_case_headers(true);
    let served = builder.serve_connection(Socket(stream), service).await;
    served.map_err(|e| GlommioError::IoError(io::Error::other(e)))
}

fn response(answer: Answer, unread: &Arc<AtomicUsize>) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(*name, *value);
    }
    // The parts are all constants, so this cannot fail; an empty answer stands for what cannot be.
    let body = Bytes::from_owner(Unread::new(answer.body, unread));
    response.body(Full::new(body)).unwrap_or_default()
}

/// A glommio socket as hyper reads and writes one.
struct Socket(TcpStream);

impl hyper::rt::Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; READ_BYTES];
        let room = buf.remaining().min(READ_BYTES);
        Pin::new(&mut self.0).poll_read(cx, &mut bytes[..room]).map_ok(|read| {
            buf.put_slice(&bytes[..read]);
        })
    }
}

impl hyper::rt::Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}
