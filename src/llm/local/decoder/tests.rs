use candle_core::quantized::{GgmlDType, gguf_file};
use candle_core::{Device, Tensor};
use candle_transformers::models as stock;

use super::super::kernels::Level;
use super::super::sample::{Sample, WIDTH, tokens};
use super::*;

fn load(sample: &Sample, threads: usize, level: Level) -> Decoder {
    let file = sample.file();
    let file = ModelFile::open(file.path()).unwrap();
    Decoder::load(&file, Kernels::best(level), threads).unwrap()
}

/// The scores after each of `parts`, read one after the other.
fn scores(decoder: &mut Decoder, parts: &[&[u32]]) -> Vec<Vec<f32>> {
    decoder.forget();
    parts.iter().map(|part| decoder.read(part, || true).unwrap().to_vec()).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn prompt(n: usize) -> Vec<u32> {
    (0..n).map(|i| (i * 37 % tokens().len()) as u32).collect()
}

/// The forward pass of candle's own implementation of a family.
type Stock = Box<dyn FnMut(&Tensor, usize) -> candle_core::Result<Tensor>>;

fn stock_model(arch: &str, sample: &Sample) -> Stock {
    let bytes = sample.bytes();
    let mut reader = std::io::Cursor::new(&bytes);
    let content = gguf_file::Content::read(&mut reader).unwrap();
    let (cpu, reader) = (Device::Cpu, &mut reader);
    match arch {
        "llama" => {
            let mut model =
                stock::quantized_llama::ModelWeights::from_gguf(content, reader, &cpu).unwrap();
            Box::new(move |x, at| model.forward(x, at))
        }
        "qwen2" => {
            let mut model =
                stock::quantized_qwen2::ModelWeights::from_gguf(content, reader, &cpu).unwrap();
            Box::new(move |x, at| model.forward(x, at))
        }
        "qwen3" => {
            let mut model =
                stock::quantized_qwen3::ModelWeights::from_gguf(content, reader, &cpu).unwrap();
            Box::new(move |x, at| model.forward(x, at))
        }
        "phi2" => {
            let mut model =
                stock::quantized_phi::ModelWeights::from_gguf(content, reader, &cpu).unwrap();
            Box::new(move |x, at| model.forward(x, at))
        }
        _ => {
            let mut model =
                stock::quantized_phi3::ModelWeights::from_gguf(false, content, reader, &cpu)
                    .unwrap();
            Box::new(move |x, at| model.forward(x, at))
        }
    }
}

/// Gemma 3 is missing: candle's has another activation than the model was made with.
#[test]
fn scores_are_those_of_the_stock_implementation() {
    for arch in ["llama", "qwen2", "qwen3", "phi2", "phi3"] {
        let sample = Sample::model(arch, GgmlDType::Q8_0);
        let mut stock = stock_model(arch, &sample);
        let mut decoder = load(&sample, 1, Level::Avx512);
        let prompt = prompt(21);
        let (first, second) = prompt.split_at(20);
        let ours = scores(&mut decoder, &[first, second]);
        for (part, at, ours) in [(first, 0, &ours[0]), (second, 20, &ours[1])] {
            let x = Tensor::new(part, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
            let theirs: Vec<f32> = stock(&x, at).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let cosine = cosine(ours, &theirs);
            assert!(cosine > 0.9995, "{arch} at {at}: {cosine}");
        }
    }
}

#[test]
fn neither_cuts_nor_threads_nor_kernels_change_the_scores() {
    for arch in ["llama", "gemma3", "phi2"] {
        let sample = Sample::model(arch, GgmlDType::Q8_0);
        let prompt = prompt(300);
        let whole = scores(&mut load(&sample, 1, Level::Avx512), &[&prompt]);
        let (first, rest) = prompt.split_at(290);
        for (threads, level) in [(1, Level::Avx512), (3, Level::Avx2), (2, Level::Portable)] {
            let mut decoder = load(&sample, threads, level);
            let mut parts = vec![first];
            parts.extend(rest.chunks(1));
            let steps = scores(&mut decoder, &parts);
            let cosine = cosine(&whole[0], steps.last().unwrap());
            assert!(cosine > 0.9999, "{arch}, {threads} threads, {level:?}: {cosine}");
            assert_eq!(decoder.position(), 300);
            assert_eq!(scores(&mut decoder, &parts), steps, "nothing is left of the last text");
        }
    }
}

#[test]
fn layers_with_a_window_forget_what_is_outside() {
    let sample = Sample::model("gemma3", GgmlDType::Q8_0);
    let mut decoder = load(&sample, 1, Level::Avx512);
    // Both layers of the sample have a window of 8 positions: one sees 8 back, two see 15.
    let mut other = prompt(40);
    let right = scores(&mut decoder, &[&other]);
    other[..24].fill(7);
    assert_eq!(scores(&mut decoder, &[&other]), right);
    other[26] = 7;
    assert_ne!(scores(&mut decoder, &[&other]), right);
}

#[test]
fn every_type_of_weights_is_read() {
    let kinds = [
        (GgmlDType::F32, 0.008),
        (GgmlDType::F16, 0.008),
        (GgmlDType::BF16, 0.008),
        (GgmlDType::Q4_0, 1e-6),
        (GgmlDType::Q4_1, 1e-6),
        (GgmlDType::Q5_0, 0.008),
        (GgmlDType::Q5_1, 0.008),
        (GgmlDType::Q8_0, 1e-6),
        (GgmlDType::Q2K, 0.008),
        (GgmlDType::Q3K, 0.008),
        (GgmlDType::Q4K, 0.002),
        (GgmlDType::Q5K, 0.008),
        (GgmlDType::Q6K, 0.008),
    ];
    for (kind, slack) in kinds {
        let mut sample = Sample::default();
        sample.matrix("m", &[21, 512], kind);
        let bytes = sample.bytes();
        let mut reader = std::io::Cursor::new(&bytes);
        let content = gguf_file::Content::read(&mut reader).unwrap();
        let right = content.tensor(&mut reader, "m", &Device::Cpu).unwrap();
        let right = right.dequantize(&Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
        let file = sample.file();
        let file = ModelFile::open(file.path()).unwrap();
        let tensor = file.tensor("m").unwrap();
        let matrix = Matrix::load(&file, &[("m", tensor)]).unwrap();
        let mut row = vec![0.0; 512];
        for (number, right) in right.iter().enumerate() {
            matrix.row(number, &mut row);
            let most = right.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            for (found, right) in row.iter().zip(right) {
                assert!((found - right).abs() <= slack * most, "{kind:?}: {found} is not {right}");
            }
        }
    }
}

#[test]
fn reading_stops_between_pieces() {
    let sample = Sample::model("llama", GgmlDType::Q8_0);
    let mut decoder = load(&sample, 1, Level::Avx512);
    let mut asked = 0;
    let stopped = decoder.read(&prompt(1000), || {
        asked += 1;
        asked < 3
    });
    assert!(stopped.is_none());
    assert_eq!((asked, decoder.position()), (3, 2 * CHUNK));
    assert_eq!((decoder.vocabulary(), decoder.shape().width), (tokens().len(), WIDTH));
}
