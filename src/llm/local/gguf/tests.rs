use candle_core::quantized::GgmlDType;
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::generator::Generator;
use super::super::kernels::{Kernels, Level};
use super::super::sample::{Sample, WIDTH, tokens};
use super::super::sampler::Sampling;
use super::super::{Figures, Settings};
use super::*;

fn read(bytes: &[u8]) -> Result<Header, GgufError> {
    Header::read(bytes, bytes.len() as u64)
}

fn sample() -> Sample {
    Sample::model("llama", GgmlDType::Q8_0)
}

fn settings() -> Settings {
    let sampling = Sampling { temperature: 0.0, top_p: 1.0, seed: 0 };
    Settings { context: 64, max_tokens: 3, sampling, snippet_chars: 300, threads: 1 }
}

/// All that is done with a file: load it, answer with it.
fn run(bytes: &[u8]) -> Result<Figures, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let generator = Generator::load(file.path(), settings(), Kernels::best(Level::Avx512));
    let mut generator = generator.map_err(|error| error.to_string())?;
    generator.go_on("the thing", |_| true).map_err(|error| error.to_string())
}

#[test]
fn a_sound_file_is_read() {
    let header = read(&sample().bytes()).unwrap();
    assert_eq!(header.metadata.unsigned("llama.embedding_length"), Some(WIDTH as u64));
    assert_eq!(header.metadata.text("general.architecture"), Some("llama"));
    assert_eq!(header.metadata.texts("tokenizer.ggml.tokens"), Some(&tokens()[..]));
    let embedding = &header.tensors["token_embd.weight"];
    assert_eq!((embedding.columns, embedding.rows), (WIDTH, tokens().len()));
    assert_eq!((embedding.kind, embedding.row_bytes()), (TensorType::Q8_0, 68));
    assert_eq!(run(&sample().bytes()).unwrap().prompt_tokens, 5);
}

#[test]
fn a_file_that_ends_early_is_refused_wherever_it_ends() {
    let bytes = sample().bytes();
    let header = bytes.len() - 60_000;
    for len in (0..header).step_by(97).chain(0..64).chain(bytes.len() - 40..bytes.len()) {
        let error = read(&bytes[..len]).expect_err("it is cut").to_string();
        let known = ["ends within", "announces", "does not lie within", "begins with"];
        assert!(known.iter().any(|part| error.contains(part)), "{len}: {error}");
    }
}

#[test]
fn lengths_are_compared_with_the_file() {
    let bytes = sample().bytes();
    let with = |at: usize, number: u64| {
        let mut bytes = bytes.clone();
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        read(&bytes).expect_err("it is damaged").to_string()
    };
    for huge in [u64::MAX, 1 << 40, 1 << 20] {
        assert!(with(8, huge).contains("announces"), "tensors");
        assert!(with(16, huge).contains("announces"), "entries");
        assert!(with(24, huge).contains("ends within"), "the first name");
    }
    let mut other = bytes.clone();
    other[4] = 1;
    assert!(matches!(read(&other), Err(GgufError::Version(1))));
    assert!(matches!(read(b"PK\x03\x04 and so on"), Err(GgufError::Magic(_))));
}

#[test]
fn tensors_lie_within_the_file() {
    let damaged = |change: &dyn Fn(&mut Sample)| {
        let mut sample = sample();
        change(&mut sample);
        read(&sample.bytes()).expect_err("it is damaged").to_string()
    };
    // Their product is 0 in 64 bits.
    let overflow = damaged(&|sample| sample.tensors[0].1 = vec![1 << 32, 1 << 32]);
    assert!(overflow.contains("does not lie within"), "{overflow}");
    let long = damaged(&|sample| sample.tensors[1].1 = vec![1 << 20]);
    assert!(long.contains("does not lie within"), "{long}");
    let odd = damaged(&|sample| sample.tensors[0].1 = vec![tokens().len(), 33]);
    assert!(odd.contains("does not lie within"), "{odd}");
    let none = damaged(&|sample| sample.tensors[0].1 = vec![0, 64]);
    assert!(none.contains("does not lie within"), "{none}");
    let unknown = damaged(&|sample| sample.tensors[0].2 = 39);
    assert!(unknown.contains("type 39"), "{unknown}");
    let deep = damaged(&|sample| sample.tensors[0].1 = vec![1; 5]);
    assert!(deep.contains("5 dimensions"), "{deep}");
    let twice = damaged(&|sample| sample.tensors[1] = sample.tensors[0].clone());
    assert!(twice.contains("two tensors"), "{twice}");
    let alignment = damaged(&|sample| sample.entry("general.alignment", Value::Integer(0)));
    assert!(alignment.contains("alignment"), "{alignment}");
}

#[test]
fn tensors_have_the_shapes_that_the_model_needs() {
    let refused = |change: &dyn Fn(&mut Sample)| {
        let mut sample = sample();
        change(&mut sample);
        run(&sample.bytes()).expect_err("it is refused")
    };
    let missing =
        refused(&|sample| sample.tensors.retain(|tensor| tensor.0 != "output_norm.weight"));
    assert!(missing.contains("no tensor output_norm.weight"), "{missing}");
    let layers = refused(&|sample| sample.entry("llama.block_count", Value::Integer(3)));
    assert!(layers.contains("blk.2."), "{layers}");
    let inner = refused(&|sample| sample.entry("llama.feed_forward_length", Value::Integer(64)));
    assert!(inner.contains("ffn_"), "{inner}");
    let few = refused(&|sample| {
        let mut more = tokens();
        more.push("more".to_owned());
        sample.entry("tokenizer.ggml.scores", Value::Floats(vec![0.0; more.len()]));
        sample.entry("tokenizer.ggml.tokens", Value::Texts(more));
    });
    assert!(few.contains("embeddings for"), "{few}");
    let nan = refused(&|sample| {
        let norm = sample.tensors.iter_mut().find(|tensor| tensor.0 == "output_norm.weight");
        norm.unwrap().3.fill(0xff);
    });
    assert!(nan.contains("no numbers"), "{nan}");
    let folder = Generator::load(Path::new("/"), settings(), Kernels::best(Level::Portable));
    assert!(folder.err().unwrap().to_string().contains("no regular file"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the bytes are, they are read or refused, and what is read can be run.
    #[test]
    fn damage_does_no_harm(
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        early in any::<bool>(),
        cut in prop::option::of(any::<Index>()),
    ) {
        let mut bytes = sample().bytes();
        for (at, byte) in changes {
            // Most of the file is weights, most of what can go wrong is before them.
            let end = if early { 700 } else { bytes.len() };
            let at = at.index(end);
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = run(&bytes);
    }

    #[test]
    fn any_bytes_will_do(rest in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = [b"GGUF\x03\0\0\0", &rest[..]].concat();
        let _ = read(&bytes);
    }
}
