//! The header of a model file, then what is made of it: vocabulary and template. Each is there or
//! an error; never a panic, never more memory than libFuzzer allows.
#![no_main]

use activekg::llm::local::gguf::Header;
use activekg::llm::local::vocabulary::{Pieces, Vocabulary};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // The size of the file is what the header is compared with; the tensors themselves are not read.
    let Ok(header) = Header::read(input, input.len() as u64 + (1 << 20)) else { return };
    let Ok(vocabulary) = Vocabulary::read(&header.metadata) else { return };
    let mut pieces = Pieces::default();
    pieces.template("<s>The");
    pieces.said("quick brown fox: 12 €");
    let tokens = vocabulary.encode(&pieces);
    assert!(tokens.iter().all(|token| (*token as usize) < vocabulary.n_tokens()));
});
