//! `lakelens plan`: that its figures fit each other and what was asked.

use super::*;

#[test]
fn a_plan_of_a_pipeline_and_its_pictures_fits_what_was_asked() {
    let folder = lake(12);
    let pipeline = "version: 1\nsource: { listing: { path: photos } }\nmodel: { path: model, threads: 1 }\nsinks: [{ jsonl: { path: out } }]\n\
                    deadline: 2999-01-01T00:00:00Z\n";
    std::fs::write(folder.path().join("p.yaml"), pipeline).unwrap();
    let asked = ["plan", "p.yaml", "--images", "200M", "--rate", "500/s", "--deadline", "48h", "--price", "1.50/h", "--cores", "4"];
    let begun = std::time::Instant::now();
    let output = run(folder.path(), &[&asked[..], &["--json"]].concat(), 0);
    assert!(begun.elapsed().as_secs() < 20, "it takes some seconds");
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    let (worker, measured) = (&plan["worker"], &plan["calibration"]);
    assert!(
        measured["model"].as_str().unwrap().starts_with("tiny@sha256:") && measured["threads"] == 1 && number(&measured["images"]) > 12.0
    );
    assert!(number(&measured["bytes_per_image"]) > 100.0 && number(&measured["fetch_per_s"]) > 1.0);
    let computed = 4.0 / (number(&worker["infer_s"]) + number(&worker["decode_s"]));
    let rate = number(&plan["images_per_s"]);
    assert!((rate - computed.min(number(&worker["fetch_per_s"]))).abs() < 1e-6 * rate);
    let needed = (200e6 / 172_800.0 + 500.0) / rate;
    assert_eq!(number(&plan["needed"]), needed.ceil().max(1.0));
    let fleet = plan["fleets"].as_array().unwrap().iter().find(|fleet| fleet["workers"] == plan["needed"]).unwrap();
    assert!(fleet["enough"] == true && number(&fleet["seconds"]) <= 172_801.0 && number(&fleet["cost"]) > 0.0, "{fleet}");
    assert!(!folder.path().join("out").exists(), "planning writes nothing");

    let output = run(folder.path(), &["plan", "--model", "model", "--images", "5000"], 0);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in
        ["ms of a core an image", "the bottleneck is", "not measured; --sample", "5,000 images: as fast as you like", "workers", "cost"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let refused = run(folder.path(), &["plan", "--images", "many"], 2);
    assert!(stderr(&refused).contains("not a number of images; write it like 200e6"), "{}", stderr(&refused));
    let late = run(folder.path(), &["plan", "--model", "model", "--images", "5", "--deadline", "2020-01-01T00:00:00Z"], 2);
    assert!(stderr(&late).contains("the deadline is over"), "{}", stderr(&late));
    std::fs::create_dir(folder.path().join("none")).unwrap();
    // It was once looked for two thousand times.
    let empty = run(folder.path(), &["plan", "--model", "model", "--sample", "none", "--images", "5"], 2);
    assert!(stderr(&empty).contains("none: there is no picture to measure with"), "{}", stderr(&empty));
    std::fs::write(folder.path().join("none/a.jpg"), "no picture").unwrap();
    let nothing = run(folder.path(), &["plan", "--model", "model", "--sample", "none", "--images", "5"], 1);
    assert!(stderr(&nothing).contains("no picture of the sample was labelled"), "{}", stderr(&nothing));
}
