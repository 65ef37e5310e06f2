use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const WINDOW: usize = 256;

type Answer = oneshot::Receiver<Result<Vec<f32>, EmbedError>>;

fn tenant(n: usize) -> TenantId {
    TenantId::new(&format!("t{n}")).unwrap()
}

fn request(text: &str) -> (Request, Answer) {
    let (reply, answer) = oneshot::channel();
    (Request { text: text.to_owned(), since: Instant::now(), reply }, answer)
}

fn texts(slice: Option<Slice>) -> Vec<String> {
    let Some(Slice::Queries(slice) | Slice::Texts(slice)) = slice else { return Vec::new() };
    slice.into_iter().map(|request| request.text).collect()
}

#[test]
fn queries_go_first_and_together() {
    let mut queue = Queue::new(10, WINDOW);
    let mut answers = Vec::new();
    for text in ["t1", "t2"] {
        let (request, answer) = request(text);
        queue.push_texts(&tenant(0), [request]).unwrap();
        answers.push(answer);
    }
    let mut ask = |queue: &mut Queue, text: &str| {
        let (request, answer) = request(text);
        queue.push_query(request).unwrap();
        answers.push(answer);
    };
    ask(&mut queue, "q1");
    assert_eq!(texts(queue.take()), ["q1"]);
    ask(&mut queue, "q2");
    ask(&mut queue, "q3");
    assert_eq!(texts(queue.take()), ["q2", "q3"]);
    assert!(queue.take_queries().is_none());
    assert_eq!(texts(queue.take()), ["t1", "t2"]);
    assert!(queue.take().is_none());
}

#[test]
fn a_slice_is_bounded_and_never_empty_while_texts_wait() {
    let mut queue = Queue::new(10, WINDOW);
    let long = "word ".repeat(1000);
    let mut answers = Vec::new();
    for i in 0..10 {
        let (request, answer) = request(&long);
        answers.push(answer);
        if i < 5 {
            queue.push_query(request).unwrap();
        } else {
            queue.push_texts(&tenant(0), [request]).unwrap();
        }
    }
    let taken: Vec<usize> = (0..7).map(|_| texts(queue.take()).len()).collect();
    assert_eq!(taken, [2, 2, 1, 2, 2, 1, 0]);
}

#[test]
fn a_query_too_many_is_refused_unless_a_caller_has_gone() {
    let mut queue = Queue::new(2, WINDOW);
    let (first, first_answer) = request("1");
    let (second, _second_answer) = request("2");
    queue.push_query(first).unwrap();
    queue.push_query(second).unwrap();
    assert!(matches!(queue.push_query(request("3").0), Err(EmbedError::Busy)));
    drop(first_answer);
    let (fourth, _fourth_answer) = request("4");
    queue.push_query(fourth).unwrap();
    assert_eq!(texts(queue.take()), ["2", "4"]);
}

#[test]
fn texts_nobody_waits_for_are_skipped() {
    let mut queue = Queue::new(9, WINDOW);
    let (gone, _) = request("gone");
    let (kept, _answer) = request("kept");
    queue.push_texts(&tenant(0), [gone, kept]).unwrap();
    assert_eq!(texts(queue.take()), ["kept"]);
}

#[test]
fn jobs_wait_for_room_and_tenants_take_turns_at_it() {
    let mut queue = Queue::new(4, WINDOW);
    let mut booked = Vec::new();
    for (who, n) in [(0, 4), (0, 4), (0, 4), (1, 3)] {
        let (go, gone) = oneshot::channel();
        queue.book(&tenant(who), n, go);
        booked.push(gone);
    }
    let went = |booked: &mut Vec<oneshot::Receiver<()>>| -> Vec<bool> {
        booked.iter_mut().map(|go| go.try_recv().is_ok()).collect()
    };
    assert_eq!(went(&mut booked), [true, false, false, false]);
    let (requests, _answers): (Vec<_>, Vec<_>) = (0..4).map(|_| request("text")).unzip();
    queue.push_texts(&tenant(0), requests).unwrap();
    assert_eq!(texts(queue.take()).len(), 4);
    // The second job of the first tenant was in line before the other's first had come.
    assert_eq!(went(&mut booked), [false, true, false, false]);
    queue.give_back(4);
    assert_eq!(went(&mut booked), [false, false, false, true]);
    drop(booked.remove(2));
    queue.give_back(3);
    assert_eq!((queue.room, queue.jobs.len()), (4, 0), "a job given up takes no room");
}

#[test]
fn closing_answers_all_and_refuses_more() {
    let mut queue = Queue::new(1, WINDOW);
    let (waiting, mut answer) = request("1");
    queue.push_query(waiting).unwrap();
    let ((first, _first), (second, mut never)) = (oneshot::channel(), oneshot::channel());
    queue.book(&tenant(0), 1, first);
    queue.book(&tenant(0), 1, second);
    queue.close();
    assert_eq!(queue.len(), (0, 0));
    assert!(matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    assert!(matches!(never.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    let (late, mut never) = oneshot::channel();
    queue.book(&tenant(0), 1, late);
    assert!(matches!(never.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    assert!(matches!(queue.push_query(request("2").0), Err(EmbedError::Stopped)));
    assert!(matches!(queue.push_texts(&tenant(0), [request("3").0]), Err(EmbedError::Stopped)));
}

/// What may happen to a queue.
#[derive(Debug, Clone)]
enum Op {
    Query {
        words: usize,
    },
    /// A job of a tenant asks for room for so many texts of so many words.
    Job {
        who: usize,
        n: usize,
        words: usize,
    },
    /// The caller of the n-th of all that wait goes away: a query, text or job.
    GoAway(usize),
    Take,
    TakeQueries,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..400usize).prop_map(|words| Op::Query { words }),
        3 => (0..3usize, 1..6usize, 0..400usize).prop_map(|(who, n, words)| Op::Job { who, n, words }),
        2 => (0..40usize).prop_map(Op::GoAway),
        4 => Just(Op::Take),
        1 => Just(Op::TakeQueries),
    ]
}

/// Something that waits, in the plain model.
#[derive(Debug)]
struct Waiting {
    text: String,
    answer: Option<Answer>,
}

/// A job that waits for room, in the plain model.
struct WaitingJob {
    texts: Vec<String>,
    go: Option<oneshot::Receiver<()>>,
}

const LIMIT: usize = 8;

/// The queue beside lists of everything that was handed in.
struct Model {
    queue: Queue,
    n: usize,
    queries: Vec<Waiting>,
    texts: BTreeMap<usize, Vec<Waiting>>,
    jobs: BTreeMap<usize, Vec<WaitingJob>>,
}

impl Model {
    fn new() -> Self {
        let (queries, texts, jobs) = <(Vec<_>, BTreeMap<_, _>, BTreeMap<_, _>)>::default();
        Self { queue: Queue::new(LIMIT, WINDOW), n: 0, queries, texts, jobs }
    }

    /// A text that is told apart from all others, of about so many tokens.
    fn text(&mut self, words: usize) -> String {
        self.n += 1;
        format!("{}:{}", self.n, "abc".repeat(words))
    }

    fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match *op {
            Op::Query { words } => self.query(words)?,
            Op::Job { who, n, words } => {
                let texts = (0..n).map(|_| self.text(words)).collect();
                let (go, gone) = oneshot::channel();
                self.queue.book(&tenant(who), n, go);
                self.jobs.entry(who).or_default().push(WaitingJob { texts, go: Some(gone) });
            }
            Op::GoAway(n) => self.go_away(n),
            Op::Take => self.take()?,
            Op::TakeQueries => {
                let slice = self.queue.take_queries().map(Slice::Queries);
                self.queries_taken(texts(slice))?;
            }
        }
        self.hand_over()?;
        self.check()
    }

    fn query(&mut self, words: usize) -> Result<(), TestCaseError> {
        let text = self.text(words);
        let (request, answer) = request(&text);
        let still = self.queries.iter().filter(|waiting| waiting.answer.is_some()).count();
        match self.queue.push_query(request) {
            Ok(()) => self.queries.push(Waiting { text, answer: Some(answer) }),
            Err(error) => {
                prop_assert!(matches!(error, EmbedError::Busy));
                prop_assert_eq!(still, LIMIT);
            }
        }
        Ok(())
    }

    fn go_away(&mut self, n: usize) {
        let answers = self.queries.iter_mut().chain(self.texts.values_mut().flatten());
        let n_answers = answers.count();
        let mut answers = self.queries.iter_mut().chain(self.texts.values_mut().flatten());
        match answers.nth(n) {
            Some(waiting) => waiting.answer = None,
            None => {
                let mut jobs = self.jobs.values_mut().flatten();
                if let Some(job) = jobs.nth(n - n_answers) {
                    job.go = None;
                    self.queue.give_back(0); // as a caller that goes does
                }
            }
        }
    }

    /// Jobs that were let in hand their texts over, in their order.
    fn hand_over(&mut self) -> Result<(), TestCaseError> {
        for (&who, jobs) in &mut self.jobs {
            jobs.retain(|job| job.go.is_some());
            while let Some(job) = jobs.first_mut()
                && job.go.as_mut().is_some_and(|go| go.try_recv().is_ok())
            {
                for text in jobs.remove(0).texts {
                    let (request, answer) = request(&text);
                    self.queue.push_texts(&tenant(who), [request]).unwrap();
                    let waiting = Waiting { text, answer: Some(answer) };
                    self.texts.entry(who).or_default().push(waiting);
                }
            }
        }
        Ok(())
    }

    fn take(&mut self) -> Result<(), TestCaseError> {
        match self.queue.take() {
            Some(Slice::Queries(slice)) => self.queries_taken(texts(Some(Slice::Queries(slice)))),
            slice => {
                self.queries.retain(|query| query.answer.is_some());
                prop_assert!(self.queries.is_empty(), "texts went before queries");
                self.texts_taken(texts(slice))
            }
        }
    }

    /// The first queries whose callers wait, as many as a slice holds.
    fn queries_taken(&mut self, taken: Vec<String>) -> Result<(), TestCaseError> {
        bounded(&taken)?;
        self.queries.retain(|waiting| waiting.answer.is_some());
        for text in taken {
            prop_assert_eq!(&self.queries.remove(0).text, &text);
        }
        Ok(())
    }

    /// Each tenant's first texts whose callers wait.
    fn texts_taken(&mut self, taken: Vec<String>) -> Result<(), TestCaseError> {
        bounded(&taken)?;
        let waiting: usize =
            self.texts.values().flatten().filter(|text| text.answer.is_some()).count();
        prop_assert_eq!(taken.is_empty(), waiting == 0);
        for lines in self.texts.values_mut() {
            lines.retain(|waiting| waiting.answer.is_some());
        }
        for text in taken {
            let line = self
                .texts
                .values_mut()
                .find(|line| line.first().is_some_and(|waiting| waiting.text == text));
            prop_assert!(line.is_some(), "{text:.9} was not the first of any tenant");
            line.unwrap().remove(0);
        }
        Ok(())
    }

    /// Never more texts inside than the limit, and no job waits that there is room for.
    fn check(&mut self) -> Result<(), TestCaseError> {
        let (n_queries, n_texts) = self.queue.len();
        prop_assert!(n_queries <= LIMIT && n_texts <= LIMIT);
        prop_assert_eq!(self.queue.room, LIMIT - n_texts);
        // The job whose turn it is may be larger than others that would fit.
        let largest = self.jobs.values().flatten().map(|job| job.texts.len()).max();
        prop_assert!(largest.is_none_or(|largest| largest > self.queue.room));
        Ok(())
    }
}

fn bounded(taken: &[String]) -> Result<(), TestCaseError> {
    let sum: usize = taken.iter().map(|text| estimated_tokens(text, WINDOW)).sum();
    prop_assert!(taken.len() <= 1 || sum <= SLICE_TOKENS);
    Ok(())
}

proptest! {
    #[test]
    fn the_queue_agrees_with_plain_lists(ops in prop::collection::vec(op(), 1..80)) {
        let mut model = Model::new();
        for op in &ops {
            model.apply(op)?;
        }
        // In the end everything that is waited for comes out.
        for _ in 0..8 * ops.len() {
            model.apply(&Op::Take)?;
        }
        prop_assert_eq!(model.queue.len(), (0, 0));
        prop_assert!(model.queries.is_empty() && model.texts.values().all(Vec::is_empty));
        prop_assert!(model.jobs.values().all(Vec::is_empty));
    }
}
