use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::records::Entry;

fn origin(dim: usize) -> Origin {
    Origin { model: "m@sha256:1".into(), preprocess: "sha256:2".into(), normalize: "none".into(), embedding_dim: dim }
}

/// Clouds of points around a middle for each class, `apart` deviations from each other along one axis a class.
fn clouds(classes: usize, each: usize, dim: usize, apart: f32) -> Examples {
    let mut random = StdRng::seed_from_u64(7);
    let mut examples = Examples {
        origin: origin(dim),
        labels: (0..classes).map(|class| format!("class {class}").into()).collect(),
        values: Vec::new(),
        classes: Vec::new(),
        missing: 0,
    };
    for n in 0..classes * each {
        let class = n % classes;
        let value =
            |axis: usize| 5.0 + (0..12).map(|_| random.random::<f32>() - 0.5).sum::<f32>() + if axis == class { apart } else { 0.0 };
        examples.values.extend((0..dim).map(value));
        examples.classes.push(class);
    }
    examples
}

#[test]
fn classes_that_lie_apart_are_told_apart_and_others_are_not() {
    for classes in [2, 4] {
        let apart = cross_validate(&clouds(classes, 30, 8, 8.0), 0.01, 1).unwrap();
        assert!(apart.accuracy > 0.98, "{apart}");
        let same = cross_validate(&clouds(classes, 30, 8, 0.0), 0.01, 1).unwrap();
        assert!(same.accuracy < 0.8, "labels that mean nothing cannot be learnt: {same}");
        let all: usize = same.confusion.iter().flatten().sum();
        assert_eq!((all, same.folds), (classes * 30, 5));
    }
}

/// At the least loss the gradient is 0: of each weight, the penalty and the errors cancel.
#[test]
fn what_is_fitted_is_the_least_of_the_penalised_loss() {
    let examples = clouds(3, 20, 4, 1.5);
    let rows: Vec<usize> = (0..60).collect();
    let (fitted, penalty) = (train(&examples, &rows, 0.5).unwrap(), 0.5);
    let mut gradients = vec![0.0; 3];
    for row in 0..60 {
        for label in fitted.label(examples.row(row), 3, 0.0) {
            let is = f32::from(u8::from(examples.classes[row] == label.index as usize));
            gradients[label.index as usize] += label.score - is;
        }
    }
    assert!(penalty > 0.0 && gradients.iter().all(|g: &f32| g.abs() < 1e-2), "the biases are not at their best: {gradients:?}");
}

#[test]
fn a_head_reads_back_as_it_was_and_damage_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h.json");
    let examples = clouds(3, 10, 4, 9.0);
    let mut head = train(&examples, &(0..30).collect::<Vec<_>>(), 0.1).unwrap();
    head.validation = Some(cross_validate(&examples, 0.1, 1).unwrap());
    head.write(&path).unwrap();
    assert_eq!(Head::read(&path).unwrap(), head);
    let text = std::fs::read_to_string(&path).unwrap();
    for damaged in [text.replace("\"class 2\"", "\"class 2\", \"class 3\""), text.replace("head.v1", "head.v2"), text[..100].to_owned()] {
        std::fs::write(&path, damaged).unwrap();
        assert!(Head::read(&path).unwrap_err().to_string().contains("h.json"));
    }
}

fn record(uri: &str, embedding: Vec<f32>) -> Record {
    let text = format!(
        r#"{{"schema":"lakelens.record.v1","uri":"{uri}","bytes":1,"format":"jpeg","width":2,"height":3,"sha256":"","space":"s",
        "model":"m@sha256:1","preprocess":"sha256:2","precision":"f32","normalize":"none","source":{{"listing":"l","key":"k"}},"processed_at":""}}"#
    );
    Record {
        embedding_dim: Some(embedding.len() as u32),
        embedding: Some(embedding),
        ..crate::format::json::parse_record(text.as_bytes()).unwrap()
    }
}

fn entries(records: &[Record]) -> impl Iterator<Item = Result<Entry>> {
    records.iter().map(|record| Ok(Entry::Record(Box::new(record.clone()))))
}

fn truth(csv: &str) -> Result<Truth> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.csv");
    std::fs::write(&path, csv).unwrap();
    Truth::read(&path)
}

#[test]
fn labels_find_their_records_by_uri_by_id_and_by_name() {
    let records = [record("file:///p/a.jpg", vec![1.0]), record("file:///q/b.jpg", vec![2.0]), record("file:///q/b.jpg", vec![9.0])];
    let mut records = [&records[..], &[record("file:///p/c.jpg", vec![3.0]), record("file:///d.jpg", vec![4.0])]].concat();
    records[0].id = Some("1".into());
    for csv in [
        "file,label\na.jpg,x\nb.jpg,y\nc.jpg,x\nd.jpg,y\ngone.jpg,y\n",
        "label,uri\nx,file:///p/a.jpg\ny,file:///q/b.jpg\nx,file:///p/c.jpg\ny,file:///d.jpg\nx,gone\n",
    ] {
        let examples = Examples::gather(entries(&records), &truth(csv).unwrap()).unwrap();
        assert_eq!((&*examples.classes, &*examples.values, examples.missing), (&[0, 1, 0, 1][..], &[1.0, 2.0, 3.0, 4.0][..], 1));
    }
    let error = Examples::gather(entries(&records), &truth("id,label\n1,x\n2,y\n").unwrap()).unwrap_err().to_string();
    assert!(error.contains("2 are needed"), "{error}");
}

/// They were once read as an infinity and written again as null, which no reader took.
#[test]
fn embeddings_that_no_f32_holds_are_refused() {
    let records = [record("file:///a.jpg", vec![1.0]), record("file:///b.jpg", vec![f32::INFINITY])];
    let both = truth("file,label\na.jpg,x\nb.jpg,y\n").unwrap();
    let head =
        Head { origin: origin(1), labels: vec!["x".into(), "y".into()], weights: vec![1.0, -1.0], bias: vec![0.0; 2], validation: None };
    let heads = BTreeMap::from([("h".to_owned(), head)]);
    for error in [
        Examples::gather(entries(&records), &both).unwrap_err(),
        relabel(entries(&records), &heads, (1, 0.0), &mut |_| Ok(())).unwrap_err(),
    ] {
        assert!(error.to_string().contains("file:///b.jpg: a value of its embedding is not finite"), "{error}");
    }
}

#[test]
fn a_labels_file_that_contradicts_itself_is_refused_with_its_line() {
    let error = |csv: &str| truth(csv).unwrap_err().to_string();
    assert!(error("file,label\na,x\nb,y\na,y\n").contains("line 4"));
    assert!(error("file,label\na,x\nb,\n").contains("line 3"));
    assert!(error("name,label\na,x\n").contains("first line"));
    assert!(error("file,label\na,x\nb,x\n").contains("two or more"));
}

#[test]
fn embeddings_of_another_model_are_refused() {
    let mut other = record("file:///b.jpg", vec![1.0]);
    other.model = "other@sha256:3".into();
    let records = [record("file:///a.jpg", vec![1.0]), other];
    let both = truth("file,label\na.jpg,x\nb.jpg,y\n").unwrap();
    assert!(Examples::gather(entries(&records), &both).unwrap_err().to_string().contains("other@sha256:3"));
    let head =
        Head { origin: origin(1), labels: vec!["x".into(), "y".into()], weights: vec![1.0, -1.0], bias: vec![0.0; 2], validation: None };
    let heads = BTreeMap::from([("h".to_owned(), head)]);
    let error = relabel(entries(&records), &heads, (1, 0.0), &mut |_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("file:///b.jpg") && error.contains("other@sha256:3"), "{error}");
}

#[test]
fn relabelled_records_keep_all_but_the_labels_of_the_head() {
    let mut with = record("file:///a.jpg", vec![2.0]);
    with.heads = Some(BTreeMap::from([("old".to_owned(), Vec::new()), ("h".to_owned(), Vec::new())]));
    let head =
        Head { origin: origin(1), labels: vec!["x".into(), "y".into()], weights: vec![1.0, -1.0], bias: vec![0.0; 2], validation: None };
    let folder = tempfile::tempdir().unwrap();
    let heads = BTreeMap::from([("h".to_owned(), head)]);
    for name in ["o.jsonl", "o.parquet"] {
        let out = folder.path().join(name);
        let mut file = crate::records::NewFile::create(&out).unwrap();
        let done = relabel(entries(std::slice::from_ref(&with)), &heads, (1, 0.0), &mut |record| file.push(record)).unwrap();
        assert!(!out.exists(), "half written under its name");
        file.finish().unwrap();
        assert_eq!((done.records, done.best["h"]["x"]), (1, 1));
        let read: Vec<Entry> = crate::records::open(&[out.to_str().unwrap().to_owned()]).unwrap().map(|e| e.unwrap()).collect();
        let Entry::Record(read) = &read[0] else { panic!("{read:?}") };
        let labels = read.heads.as_ref().unwrap();
        assert_eq!((labels.len(), labels["old"].len(), &*labels["h"][0].label, labels["h"].len()), (2, 0, "x", 1));
        assert_eq!((&read.uri, &read.embedding), (&with.uri, &with.embedding));
    }
}

#[test]
fn a_head_of_embeddings_without_values_is_refused() {
    let text = serde_json::json!({"schema": SCHEMA, "model": "m", "preprocess": "p", "normalize": "none", "embedding_dim": 0,
        "labels": ["a", "b"], "bias": [0.0, 0.0], "weights_b64": ""});
    assert_eq!(Head::parse(text.to_string().as_bytes()).err().as_deref(), Some("its embedding_dim is 0"));
}

proptest! {
    #[test]
    fn no_file_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), dim in 0usize..5, bias in proptest::collection::vec(any::<f32>(), 0..4)) {
        let _ = Head::parse(&bytes);
        let text = serde_json::json!({"schema": SCHEMA, "model": "m", "preprocess": "p", "normalize": "none", "embedding_dim": dim,
            "labels": ["a", "b"], "bias": bias, "weights_b64": STANDARD.encode(&bytes)});
        if let Ok(head) = Head::parse(text.to_string().as_bytes()) {
            prop_assert_eq!(head.label(&vec![0.5; dim], 2, f32::NEG_INFINITY).len(), 2);
        }
    }
}
