//! A client of Redis that is no slower than it has to be: commands are written out by hand and a
//! batch of them goes in one piece.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::work::{Client, Fault, Job, KEY_BYTES, Kind, Random, TENANTS};

/// Takes a key and counts the job, unless the key is taken.
const ENQUEUE: &str = "if redis.call('SET',KEYS[1],'1','NX') then redis.call('INCR',KEYS[2]) \
                       redis.call('LPUSH',KEYS[3],ARGV[1]) return 1 end return 0";

/// Moves the oldest job to where leases are, with the end of the lease.
const LEASE: &str = "local job=redis.call('RPOP',KEYS[1]) \
                     if job then redis.call('ZADD',KEYS[2],ARGV[1],job) end return job";

/// Removes a job whose lease still holds, frees its key and uncounts it.
const ACK: &str = "if redis.call('ZREM',KEYS[1],ARGV[1])==1 then redis.call('DEL',KEYS[2]) \
                   redis.call('DECR',KEYS[3]) return 1 end return 0";

/// What Redis answers.
enum Reply {
    Number(i64),
    Bytes(Vec<u8>),
    Nothing,
}

struct Connection {
    reader: BufReader<Box<dyn Read + Send>>,
    writer: Box<dyn Write + Send>,
    /// Commands not sent yet.
    batch: Vec<u8>,
    /// How many those are.
    n: usize,
}

impl Connection {
    /// `peer` is a host and port, or the path of a socket.
    fn open(peer: &str) -> Result<Connection, Fault> {
        let (reader, writer): (Box<dyn Read + Send>, Box<dyn Write + Send>) =
            if peer.starts_with('/') {
                let stream = UnixStream::connect(peer)?;
                (Box::new(stream.try_clone()?), Box::new(stream))
            } else {
                let stream = TcpStream::connect(peer)?;
                stream.set_nodelay(true)?;
                (Box::new(stream.try_clone()?), Box::new(stream))
            };
        let reader = BufReader::with_capacity(1 << 16, reader);
        Ok(Connection { reader, writer, batch: Vec::new(), n: 0 })
    }

    /// Adds a command to the batch.
    fn push(&mut self, words: &[&[u8]]) {
        self.batch.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            self.batch.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            self.batch.extend_from_slice(word);
            self.batch.extend_from_slice(b"\r\n");
        }
        self.n += 1;
    }

    /// Sends the batch and shows every reply to `look`.
    fn run(&mut self, mut look: impl FnMut(Reply)) -> Result<(), Fault> {
        self.writer.write_all(&self.batch)?;
        self.batch.clear();
        for _ in 0..std::mem::take(&mut self.n) {
            look(self.reply()?);
        }
        Ok(())
    }

    fn one(&mut self, words: &[&[u8]]) -> Result<Reply, Fault> {
        self.push(words);
        let mut answer = Reply::Nothing;
        self.run(|reply| answer = reply)?;
        Ok(answer)
    }

    fn reply(&mut self) -> Result<Reply, Fault> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).ok_or("Redis closed the connection")?;
        match kind {
            "+" => Ok(Reply::Bytes(rest.as_bytes().to_vec())),
            ":" => Ok(Reply::Number(rest.parse()?)),
            "$" if rest == "-1" => Ok(Reply::Nothing),
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>()? + 2];
                self.reader.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Ok(Reply::Bytes(bytes))
            }
            _ => Err(format!("Redis says {line}").into()),
        }
    }
}

/// Empties the server.
pub(crate) fn flush(peer: &str) -> Result<(), Fault> {
    Connection::open(peer)?.one(&[b"FLUSHALL", b"SYNC"])?;
    Ok(())
}

pub(crate) struct Redis {
    connection: Connection,
    kind: Kind,
    /// The list of what this client has in hand.
    mine: String,
    /// The scripts' names: enqueue, lease, ack.
    scripts: [Vec<u8>; 3],
    leased: Vec<Vec<u8>>,
}

impl Redis {
    pub(crate) fn connect(peer: &str, kind: Kind, number: usize) -> Result<Redis, Fault> {
        let mut connection = Connection::open(peer)?;
        let mut scripts = [const { Vec::new() }; 3];
        for (name, text) in scripts.iter_mut().zip([ENQUEUE, LEASE, ACK]) {
            match connection.one(&[b"SCRIPT", b"LOAD", text.as_bytes()])? {
                Reply::Bytes(bytes) => *name = bytes,
                Reply::Number(_) | Reply::Nothing => return Err("a script has no name".into()),
            }
        }
        let mine = format!("working:{number}");
        Ok(Redis { connection, kind, mine, scripts, leased: Vec::new() })
    }
}

fn line(tenant: usize) -> String {
    format!("queue:{}", TENANTS[tenant])
}

fn pending(tenant: usize) -> String {
    format!("pending:{}", TENANTS[tenant])
}

impl Client for Redis {
    fn enqueue(&mut self, jobs: Vec<Job>) -> Result<(), Fault> {
        let Redis { connection, kind, scripts, .. } = self;
        let n = jobs.len() as i64;
        for Job { tenant, id: _, key, payload } in jobs {
            let line = line(tenant);
            match (*kind, key) {
                (Kind::Keyed, Some(key)) => {
                    let live = format!("live:{}:{key}", TENANTS[tenant]);
                    connection.push(&[
                        b"EVALSHA",
                        &scripts[0],
                        b"3",
                        live.as_bytes(),
                        pending(tenant).as_bytes(),
                        line.as_bytes(),
                        &payload,
                    ]);
                }
                _ => connection.push(&[b"LPUSH", line.as_bytes(), &payload]),
            }
        }
        let mut taken = 0;
        connection.run(|reply| taken += i64::from(matches!(reply, Reply::Number(1..))))?;
        if taken == n { Ok(()) } else { Err(format!("Redis took {taken} of {n} jobs").into()) }
    }

    fn lease(&mut self, n: usize) -> Result<(), Fault> {
        let Redis { connection, kind, mine, scripts, leased } = self;
        let until = SystemTime::now().duration_since(UNIX_EPOCH)? + Duration::from_secs(300);
        let until = until.as_micros().to_string();
        for number in 0..n {
            let line = line(number % TENANTS.len());
            match kind {
                Kind::Plain => {
                    connection.push(&[
                        b"LMOVE",
                        line.as_bytes(),
                        mine.as_bytes(),
                        b"RIGHT",
                        b"LEFT",
                    ]);
                }
                Kind::Keyed => connection.push(&[
                    b"EVALSHA",
                    &scripts[1],
                    b"2",
                    line.as_bytes(),
                    b"leases",
                    until.as_bytes(),
                ]),
            }
        }
        connection.run(|reply| {
            if let Reply::Bytes(job) = reply {
                leased.push(job);
            }
        })
    }

    fn ack(&mut self) -> Result<usize, Fault> {
        let Redis { connection, kind, mine, scripts, leased } = self;
        for job in leased.drain(..) {
            match kind {
                // What was leased first lies last.
                Kind::Plain => connection.push(&[b"LREM", mine.as_bytes(), b"-1", &job]),
                Kind::Keyed => {
                    let tenant = usize::from(job[0] - b'0');
                    let key = String::from_utf8_lossy(&job[1..=KEY_BYTES]);
                    let live = format!("live:{}:{key}", TENANTS[tenant]);
                    connection.push(&[
                        b"EVALSHA",
                        &scripts[2],
                        b"3",
                        b"leases",
                        live.as_bytes(),
                        pending(tenant).as_bytes(),
                        &job,
                    ]);
                }
            }
        }
        let mut done = 0;
        connection.run(|reply| done += usize::from(matches!(reply, Reply::Number(1))))?;
        Ok(done)
    }
}

/// A worker waits in BLMOVE while jobs are pushed one by one; how long after the push it had each.
pub(crate) fn starts(peer: &str, n: usize) -> Result<Vec<Duration>, Fault> {
    let mut worker = Connection::open(peer)?;
    let mut producer = Connection::open(peer)?;
    let worker = std::thread::spawn(move || {
        let mut started = Vec::with_capacity(n);
        for _ in 0..n {
            let job = worker.one(&[b"BLMOVE", b"idle", b"working", b"RIGHT", b"LEFT", b"30"])?;
            started.push(Instant::now());
            if let Reply::Bytes(job) = job {
                worker.one(&[b"LREM", b"working", b"-1", &job])?;
            }
        }
        Ok::<_, Fault>(started)
    });
    let mut random = Random(1);
    let mut sent = Vec::with_capacity(n);
    for number in 0..n {
        std::thread::sleep(Duration::from_micros(4000 + random.next() % 4000));
        sent.push(Instant::now());
        producer.one(&[b"LPUSH", b"idle", number.to_string().as_bytes()])?;
    }
    let started = worker.join().map_err(|_| "the worker panicked")??;
    Ok(started.iter().zip(sent).map(|(at, sent)| at.saturating_duration_since(sent)).collect())
}
