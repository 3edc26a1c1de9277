//! What the store does while its disk fails, and what must hold of it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fender::deadletter::{Because, Begin, Draft, Filter, Letter, LetterId, State};
use serde_json::{Value, json};

use crate::blackbox::letters::call;
use crate::deadletter::failing_disk::{FailingDisk, Fault, Shim};
use crate::deadletter::sealed::{KEYS, set_keys};
use crate::deadletter::{Bench, LATE, draft, runtime, settings};
use crate::support::{Client, Fender, PATIENCE, Setup, Upstream, eventually, files_that_hold};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scene {
    /// Writes come in.
    Capture,
    /// Letters go out: delivered, refused for good, given up.
    Replay,
    /// A store is made.
    Fresh,
    /// One that was closed is opened.
    Start,
    /// One whose process was killed is opened, with its WAL, and a letter half sent.
    Killed,
    /// One whose pages make no sense is opened: it is set aside.
    Damaged,
    /// What is done with is removed, and its space given back.
    Retention,
    /// Letters in the clear are sealed, then sealed anew with another key, and what they left is overwritten.
    Sealing,
}

impl Scene {
    pub(super) const ALL: [Self; 8] = [
        Self::Capture,
        Self::Replay,
        Self::Fresh,
        Self::Start,
        Self::Killed,
        Self::Damaged,
        Self::Retention,
        Self::Sealing,
    ];

    /// Whether the disk fails before the process begins.
    const fn begins_with_it(self) -> bool {
        !matches!(self, Self::Capture | Self::Replay)
    }
}

/// A store as a scene begins with it.
pub(super) struct Base {
    pub(super) scene: Scene,
    folder: tempfile::TempDir,
    letters: HashMap<LetterId, String>,
    /// What the two keys are known by, where letters are sealed.
    keys: Vec<String>,
}

/// What came of a scene.
pub(super) struct Played {
    /// How often each call was made.
    pub(super) calls: [u64; 7],
    /// How many calls failed.
    pub(super) hit: u64,
}

/// What is written to this path.
fn body(path: &str) -> Vec<u8> {
    let number: usize = path.rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or(0);
    let mut body = format!("write {path} ").into_bytes();
    body.resize([100, 3000, 9000, 40_000, 500][number % 5], b'.');
    body
}

fn letter(path: &str) -> Draft {
    Draft {
        route: "/".to_owned(),
        path: path.to_owned(),
        headers: vec![("content-type".to_owned(), b"text/plain".to_vec())],
        begin: Begin::Pending { next_attempt_at_ms: LATE },
        ..draft(body(path))
    }
}

/// Keeps so many.
fn keep_all(keep: &mut impl FnMut(Draft) -> LetterId, letters: u32) {
    for number in 0..letters {
        keep(letter(&format!("/ok/{number}")));
    }
}

/// Quota of all scenes: its WAL is brought home often.
const MAX_BYTES: u64 = 16 << 20;

/// Three pages make no sense any more.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 3 * 4096].fill(0xa5);
    fs::write(path, bytes).unwrap();
}

/// What a key is known by.
fn known_by(key: usize) -> String {
    let bench = Bench::with(|settings| set_keys(settings, &[key]));
    let stats = bench.ask(async |store| store.stats(Filter::default()).await).unwrap();
    stats.keys[0].key.expect("a key is configured").to_string()
}

/// So many letters are done with where retention is at work.
const DONE: usize = 100;

impl Base {
    pub(super) fn lay(scene: Scene) -> Self {
        let mut base =
            Self { scene, folder: tempfile::tempdir().unwrap(), letters: HashMap::new(), keys: Vec::new() };
        if scene == Scene::Sealing {
            base.keys = (0..2).map(known_by).collect();
        }
        if scene == Scene::Fresh {
            return base;
        }
        let mut bench = Bench::with(|settings| settings.max_bytes = MAX_BYTES);
        let mut keep = |draft: Draft| {
            let path = draft.path.clone();
            let id = bench.capture(draft);
            base.letters.insert(id, path);
            id
        };
        match scene {
            Scene::Fresh | Scene::Capture => {}
            Scene::Replay => {
                for path in
                    ["/ok/1", "/ok/2", "/ok/3", "/ok/4", "/ok/5", "/bad/6", "/bad/7", "/busy/8", "/busy/9"]
                {
                    keep(letter(path));
                }
            }
            Scene::Start | Scene::Sealing => keep_all(&mut keep, 30),
            Scene::Damaged => keep_all(&mut keep, 120),
            Scene::Killed => {
                let ids: Vec<LetterId> =
                    (0..12).map(|number| keep(letter(&format!("/ok/{number}")))).collect();
                bench.begin(ids[3]).unwrap();
            }
            Scene::Retention => {
                keep_all(&mut keep, 5);
                for _ in 0..DONE {
                    bench.capture(Draft { begin: Begin::Parked(Because::Operator), ..letter("/done/3") });
                }
                let filter = || Filter { state: Some(State::Parked), ..Filter::default() };
                let discarded = bench.ask(async |store| {
                    let discard = fender::deadletter::Act::Discard;
                    store.bulk(filter(), u32::try_from(DONE).unwrap(), discard).await
                });
                assert_eq!(discarded.unwrap().done.len(), DONE);
            }
        }
        if scene != Scene::Killed {
            bench.close();
        }
        for suffix in ["", "-wal", ".reserve"] {
            let name = format!("letters.db{suffix}");
            let there = bench.folder.path().join(&name);
            if there.exists() {
                fs::copy(there, base.folder.path().join(name)).unwrap();
            }
        }
        if scene == Scene::Damaged {
            damage(&base.folder.path().join("letters.db"));
        }
        base
    }

    /// Plays the scene, and holds what became of it against what was said; panics where they differ.
    pub(super) fn play(&self, shim: &Shim, fault: Option<Fault>) -> Played {
        let disk = FailingDisk::new(shim);
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), disk.path().join(entry.file_name())).unwrap();
        }
        let arm = || fault.into_iter().for_each(|fault| disk.arm(fault));
        if self.scene.begins_with_it() {
            arm();
        }
        let world = World::new();
        let fender = disk.under(self.setup(&disk, &world, &[0])).start();
        let traffic = Traffic::start(&fender);
        let mut before = [0; 7];
        if !self.scene.begins_with_it() {
            eventually("the store is open", || healthy(&fender));
            before = disk.counts();
            arm();
        }
        let mut heard = Heard::default();
        let goes_on = fault.is_some_and(|fault| fault.on);
        self.act(&fender, &disk, &world, &mut heard, goes_on);
        let calls: Vec<u64> = disk.counts().iter().zip(before).map(|(now, before)| now - before).collect();
        disk.disarm();
        self.recovers(&fender, &disk, &world, &mut heard);
        traffic.end();
        assert!(fender.running() && !fender.log().contains("panicked"), "it panicked");
        // Every other time it is killed.
        if fault.is_some_and(|fault| fault.nth.is_multiple_of(2)) {
            fender.sigterm();
            assert!(fender.wait_exit(PATIENCE).success(), "it ends well");
        }
        drop(fender);
        self.judge(&disk, &world, &heard);
        Played { calls: calls.try_into().expect("seven calls"), hit: disk.hit() }
    }

    /// `keys`: which ones are configured where letters are sealed.
    fn setup(&self, disk: &FailingDisk, world: &World, keys: &[usize]) -> Setup {
        let (base, attempts) = if self.scene == Scene::Replay { ("50ms", 2) } else { ("1h", 1000) };
        let retain = if self.scene == Scene::Retention { "1s" } else { "24h" };
        let mut keys = keys.iter().map(|key| KEYS[*key]).filter(|_| self.scene == Scene::Sealing);
        let current = keys.next().map(|key| format!("encryption_key = {key:?}\n")).unwrap_or_default();
        let old: Vec<&str> = keys.collect();
        Setup::new(format!(
            "[dead_letter]\n{current}old_encryption_keys = {old:?}\npath = {:?}\nmax_bytes = \"{MAX_BYTES}B\"\nretain_delivered = \"{retain}\"\n\
             {}dead_letter.mode = \"on_failure\"\n\
             dead_letter.replay = {{ backoff = {{ strategy = \"fixed\", base = \"{base}\", max = \"{base}\", jitter = \"none\" }}, \
             per_second = 50.0, max_attempts = {attempts} }}\nthrottle = {{ adapt = false }}\nretry = {{ max_attempts = 1 }}\n\
             breaker = {{ consecutive_failures = 1000, open_for = \"50ms\" }}\n\
             [upstream.well]\nurl = \"{}\"\nroute = \"/well\"\n",
            disk.path().join("letters.db"),
            world.upstream.as_api(""),
            world.other.url(),
        ))
        .server("workers = 1\ndrain_quiet = \"0s\"\n")
        .admin("[[admin.token]]\nname = \"ops\"\nrole = \"operator\"\nsecret = \"s\"\n")
    }

    fn act(&self, fender: &Fender, disk: &FailingDisk, world: &World, heard: &mut Heard, goes_on: bool) {
        match self.scene {
            Scene::Capture => {
                for number in 0..8 {
                    heard.write(fender, &format!("/ok/{number}"));
                }
            }
            Scene::Replay => {
                world.well.store(true, Ordering::SeqCst);
                // With a disk that fails on and on it cannot end: so it is let fail for a while.
                // A content that cannot be read for more than a second is taken for damaged, and its letter is an operator's.
                let until = Instant::now() + Duration::from_millis(700);
                let enough = || goes_on && disk.hit() > 0 && Instant::now() > until;
                while !enough() && !settled(fender) {
                    replay_what_waits(fender);
                    thread::sleep(Duration::from_millis(20));
                    assert!(Instant::now() < until + PATIENCE, "the letters go out");
                }
            }
            Scene::Retention => {
                heard.write(fender, "/ok/1000");
                let until = Instant::now() + Duration::from_millis(1500);
                while !swept(fender, disk) && Instant::now() < until + PATIENCE {
                    if goes_on && disk.hit() > 0 && Instant::now() > until {
                        break;
                    }
                    thread::sleep(Duration::from_millis(20));
                }
            }
            Scene::Sealing => {
                for (key, keys) in [[0].as_slice(), &[1, 0]].into_iter().enumerate() {
                    fender.rewrite_config(&self.setup(disk, world, keys));
                    fender.sighup();
                    heard.write(fender, &format!("/ok/{}", 1000 + 3 * key));
                    let until = Instant::now() + Duration::from_millis(700);
                    while !sealed_with(fender, &self.keys[key]) {
                        if goes_on && disk.hit() > 0 && Instant::now() > until {
                            break;
                        }
                        thread::sleep(Duration::from_millis(10));
                        assert!(Instant::now() < until + PATIENCE, "the letters are sealed");
                    }
                }
            }
            Scene::Fresh | Scene::Start | Scene::Killed | Scene::Damaged => {
                heard.write(fender, "/ok/1000");
                heard.write(fender, "/ok/1003");
            }
        }
    }

    /// The disk is well: so is the store, without a restart, and what waited goes on.
    fn recovers(&self, fender: &Fender, disk: &FailingDisk, world: &World, heard: &mut Heard) {
        eventually("the store is well", || healthy(fender));
        let mut number = 2000;
        eventually("writes are taken", || {
            number += 5;
            heard.write(fender, &format!("/ok/{number}"))
        });
        match self.scene {
            Scene::Replay => {
                eventually("all letters are settled", || {
                    replay_what_waits(fender);
                    settled(fender)
                });
                let acted = world.acted.lock().unwrap().clone();
                for number in 1..=5 {
                    let (_, letters) = call(fender, "GET", "/api/v1/letters?limit=100", "s", &json!(null));
                    assert_eq!(acted.get(&format!("/ok/{number}")), Some(&1), "{acted:?}, {letters}");
                }
            }
            Scene::Sealing => {
                eventually("all letters are sealed with the new key", || sealed_with(fender, &self.keys[1]));
                eventually("nothing lies in the clear", || {
                    files_that_hold(&disk.path(), b"write /ok/").is_empty()
                });
            }
            Scene::Retention => {
                eventually("what is done with is gone", || {
                    fender.metric("fender_dead_letters", &[("state", "discarded")]) == 0.0
                });
            }
            _ => {}
        }
    }

    fn judge(&self, disk: &FailingDisk, world: &World, heard: &Heard) {
        let path = disk.path().join("letters.db");
        let mut settings = settings(&path);
        settings.max_bytes = MAX_BYTES;
        if self.scene == Scene::Sealing {
            // The old one may go.
            set_keys(&mut settings, &[1]);
        }
        let mut bench =
            Bench { folder: tempfile::tempdir().unwrap(), runtime: runtime(), settings, store: None };
        let opened = bench.open();
        assert_eq!(opened.set_aside, None, "a fault of the disk is no damage");
        let aside = set_aside(&disk.path());
        assert_eq!(aside > 0, self.scene == Scene::Damaged, "{aside} files were set aside");
        let report = bench.ask(async |store| store.verify().await).unwrap();
        assert!(report.file.iter().all(|line| line.ends_with("set aside as damaged")), "{:?}", report.file);
        assert_eq!(report.file.is_empty(), self.scene != Scene::Damaged, "{:?}", report.file);
        assert!(report.locked.is_empty(), "{:?}", report.locked);
        assert!(report.damaged.is_empty() || self.scene == Scene::Damaged, "{:?}", report.damaged);
        let letters = all(&bench);
        for (id, path) in self.letters.iter().chain(&heard.accepted) {
            let Some(letter) = letters.get(id) else {
                assert!(self.scene == Scene::Damaged && self.letters.contains_key(id), "{id}, {path}: gone");
                continue;
            };
            if letter.parked_because == Some(Because::Damaged) && self.scene == Scene::Damaged {
                continue;
            }
            let content = bench.ask(async |store| store.content(*id).await).unwrap();
            assert!(&letter.path == path && content.body == body(path), "{id}, {path}: not what was written");
            assert!(self.stands_well(letter), "{letter:?}");
        }
        let found = |path: &str| letters.values().filter(|letter| letter.path == path).count();
        if self.scene == Scene::Damaged {
            let kept = self.letters.keys().filter(|id| letters.contains_key(id)).count();
            assert!(kept > self.letters.len() / 2, "only {kept} were taken over");
        }
        for path in &heard.refused {
            let kept = letters.values().any(|letter| &letter.path == path && letter.state == State::Pending);
            assert!(!kept, "{path} was refused, and is kept");
        }
        for path in heard.accepted.values().filter(|path| !self.letters.values().any(|known| known == *path))
        {
            assert_eq!(found(path), 1, "{path}");
        }
        assert_eq!(*world.wrong.lock().unwrap(), Vec::<String>::new());
        let acted = world.acted.lock().unwrap();
        assert!(acted.values().all(|times| *times == 1), "done twice: {acted:?}");
    }

    fn stands_well(&self, letter: &Letter) -> bool {
        match (self.scene, letter.path.split('/').nth(1)) {
            (Scene::Replay, Some("ok")) if self.letters.contains_key(&letter.id) => {
                letter.state == State::Delivered
            }
            (Scene::Replay, Some("bad")) => letter.parked_because == Some(Because::Permanent),
            (Scene::Replay, Some("busy")) => letter.parked_because == Some(Because::Attempts),
            (Scene::Killed, _) if letter.path == "/ok/3" => letter.parked_because == Some(Because::Ambiguous),
            (Scene::Replay, _) => matches!(letter.state, State::Pending | State::Delivered),
            _ => letter.state == State::Pending,
        }
    }
}

/// What clients were told.
#[derive(Default)]
struct Heard {
    accepted: HashMap<LetterId, String>,
    refused: HashSet<String>,
}

impl Heard {
    /// One write; whether it was accepted.
    fn write(&mut self, fender: &Fender, path: &str) -> bool {
        let answer = fender.post(path, "content-type: text/plain\r\n", &body(path));
        match answer.status() {
            202 => {
                let id = answer.field("fender-letter").parse().expect("an acceptance names its letter");
                self.accepted.insert(id, path.to_owned());
                true
            }
            200 => true,
            429 | 503 => {
                self.refused.insert(path.to_owned());
                false
            }
            other => panic!("{path}: {other}: {}", answer.text()),
        }
    }
}

/// The upstreams: one whose writes are kept, and one that is always well.
struct World {
    upstream: Upstream,
    other: Upstream,
    well: Arc<AtomicBool>,
    /// How often each write was acted on.
    acted: Arc<Mutex<HashMap<String, u32>>>,
    /// What came otherwise than it was written.
    wrong: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn new() -> Self {
        let (well, acted) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(HashMap::new())));
        let wrong = Arc::new(Mutex::new(Vec::new()));
        let theirs = (Arc::clone(&well), Arc::clone(&acted), Arc::clone(&wrong));
        let upstream = Upstream::scripted(move |connection| {
            let (well, acted, wrong) = &theirs;
            while let Some(received) = connection.request() {
                let path = received.head.target().to_owned();
                if received.body.bytes != body(&path) {
                    wrong.lock().unwrap().push(path.clone());
                }
                let status = match path.split('/').nth(1) {
                    Some("bad") => "400 Bad",
                    Some("ok") if well.load(Ordering::SeqCst) => {
                        *acted.lock().unwrap().entry(path).or_default() += 1;
                        "200 OK"
                    }
                    _ => "429 Slow",
                };
                connection.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
            }
        });
        Self { upstream, other: Upstream::ok("well"), well, acted, wrong }
    }
}

/// Requests that need no store, one after the other, as long as this lives.
struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<u32, String>>>,
}

/// No answer may take so long, on a machine that does much else.
const SLOWEST: Duration = Duration::from_secs(3);

impl Traffic {
    fn start(fender: &Fender) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (address, stopped) = (fender.server(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut client = Client::try_connect(address).ok_or("nobody listens")?;
            let mut served = 0;
            while !stopped.load(Ordering::SeqCst) {
                let begun = Instant::now();
                client.send("GET /well HTTP/1.1\r\nhost: app.test\r\n\r\n");
                let answer = client.try_response("GET").ok_or("no answer")?;
                if answer.status() != 200 || begun.elapsed() > SLOWEST {
                    return Err(format!("{} after {:?}", answer.status(), begun.elapsed()));
                }
                served += 1;
                thread::sleep(Duration::from_millis(10));
            }
            Ok(served)
        });
        Self { stop, thread: Some(thread) }
    }

    fn end(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let served = self.thread.take().expect("it ends once").join().unwrap();
        assert!(served.as_ref().is_ok_and(|served| *served > 0), "traffic that needs no store: {served:?}");
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn healthy(fender: &Fender) -> bool {
    fender.metric("fender_dead_letter_store_healthy", &[]) == 1.0
}

/// An operator sends on its way what nobody has tried yet.
fn replay_what_waits(fender: &Fender) {
    let (status, page) = call(fender, "GET", "/api/v1/letters?state=pending&limit=100", "s", &json!(null));
    if status != 200 {
        return; // The store says what is wrong with it.
    }
    for letter in page["letters"].as_array().unwrap() {
        if letter["attempts"].as_array().is_some_and(|attempts| attempts.len() == 1) {
            let path = format!("/api/v1/letters/{}/replay", letter["id"].as_str().unwrap());
            call(fender, "POST", &path, "s", &json!(null));
        }
    }
}

/// Whether no letter is on its way any more: by one look, since a letter goes to and fro.
fn settled(fender: &Fender) -> bool {
    let series = fender.metrics();
    let on_its_way = |name: &str| {
        name.starts_with("fender_dead_letters{")
            && (name.contains("state=\"pending\"") || name.contains("state=\"sending\""))
    };
    series.get("fender_dead_letter_store_healthy") == Some(&1.0)
        && series.iter().all(|(name, value)| !on_its_way(name) || *value == 0.0)
}

/// Whether all letters are sealed with the key that is known by this.
fn sealed_with(fender: &Fender, key: &str) -> bool {
    let (status, stats) = call(fender, "GET", "/api/v1/letters/stats", "s", &json!(null));
    if status != 200 {
        return false; // The store says what is wrong with it.
    }
    let keys = stats["keys"].as_array().unwrap();
    let current = |one: &Value| one["key"] == key && one["sealing"] == "current";
    keys.iter().any(current) && keys.iter().all(|one| current(one) || one["letters"] == 0) && healthy(fender)
}

/// Whether what was done with is gone, and its space given back.
fn swept(fender: &Fender, disk: &FailingDisk) -> bool {
    let size = fs::metadata(disk.path().join("letters.db")).map_or(u64::MAX, |metadata| metadata.len());
    fender.metric("fender_dead_letters", &[("state", "discarded")]) == 0.0 && size < 1536 << 10
}

fn set_aside(folder: &Path) -> usize {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
    files.filter(|name| name.to_string_lossy().contains(".damaged-")).count()
}

fn all(bench: &Bench) -> HashMap<LetterId, Letter> {
    let page = bench.ask(async |store| store.list(Filter::default(), 1000, None).await).unwrap();
    assert!(page.next.is_none());
    page.letters.into_iter().map(|letter| (letter.id, letter)).collect()
}
