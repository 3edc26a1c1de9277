//! How fast letters go out again once their upstream is well.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

use fender::deadletter::Store;

use crate::subject::{Subject, free};
use crate::{capture_many, runtime, settings};

/// Letters delivered a second by the binary, from the first tenth to the last, out of a store that holds `letters` of 4 KiB.
pub(crate) fn measure(folder: &Path, name: &str, letters: u64, replay: &str) -> f64 {
    let path = folder.join(format!("{name}.db"));
    let runtime = runtime();
    let (store, _) = Store::open(&settings(&path)).unwrap();
    runtime.block_on(async {
        capture_many(&store, 0..letters, crate::unkeyed).await;
        store.close().await;
    });
    let (upstream, admin) = (Subject::upstream(), free());
    let fender = Subject::fender_with(
        admin,
        &format!(
            "[dead_letter]\npath = {path:?}\nmax_bytes = \"8GiB\"\n[upstream.api]\nurl = \"http://{}\"\nroute = \"/\"\n\
         dead_letter.mode = \"on_failure\"\ndead_letter.replay = {{ {replay} }}\n",
            upstream.address
        ),
    );
    let until = Instant::now() + Duration::from_secs(120);
    let reaches = |share: f64| loop {
        let delivered = delivered(admin);
        if delivered >= share * crate::count(usize::try_from(letters).unwrap()) {
            return (delivered, Instant::now());
        }
        assert!(Instant::now() < until, "only {delivered} of {letters} letters were delivered");
        thread::sleep(Duration::from_millis(5));
    };
    let ((early, from), (late, to)) = (reaches(0.1), reaches(0.9));
    drop(fender);
    fs::remove_file(path).unwrap();
    (late - early) / to.duration_since(from).as_secs_f64()
}

/// How many letters there are of it so far.
fn delivered(admin: SocketAddr) -> f64 {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(admin)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().expect("the admin side answers");
    let of_them =
        |line: &&str| line.starts_with("fender_dead_letters{") && line.contains("state=\"delivered\"");
    answer.lines().filter(of_them).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
