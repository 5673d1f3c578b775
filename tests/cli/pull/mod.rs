//! `lakelens model pull`, from a server on this machine that speaks the hub's protocol.

mod server;
mod weights;

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;

use self::server::{COMMIT, Server, sha256};
use super::{command, lake, records, run, stderr};

/// How the pictures of the tiny network are prepared, as transformers writes it.
const PIXELS: &str = r#"{"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 32}, "do_center_crop": true,
    "crop_size": {"height": 32, "width": 32}, "resample": 3, "rescale_factor": 0.00392156862745098, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}"#;

fn config() -> String {
    let labels: serde_json::Map<String, Value> = (0..10).map(|n| (n.to_string(), format!("thing {n}\u{1b}").into())).collect();
    json!({"architectures": ["Net"], "id2label": labels}).to_string()
}

/// A folder with pictures and a tiny network, and a hub that has that network.
fn hub() -> (TempDir, Server) {
    let folder = lake(3);
    let graph = std::fs::read(folder.path().join("model/model.onnx")).unwrap();
    let server = Server::start(&[
        ("config.json", config().as_bytes()),
        ("preprocessor_config.json", PIXELS.as_bytes()),
        ("onnx/model.onnx", &graph),
        ("README.md", b"hello"),
    ]);
    (folder, server)
}

fn pull(folder: &Path, server: &Server, args: &[&str], vars: &[(&str, &str)], code: i32) -> Output {
    let mut command = command(folder, &[&["model", "pull"], args].concat());
    for name in ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_ENDPOINT", "http_proxy", "HTTP_PROXY"] {
        command.env_remove(name);
    }
    command.env("HF_ENDPOINT", &server.url).env("HF_HOME", folder.join("hf")).env("LAKELENS_TORCHVISION_URL", &server.store);
    let output = command.envs(vars.iter().copied()).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
    output
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What is in a folder, hidden files too.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_repository_becomes_a_model_that_labels() {
    let (folder, server) = hub();
    let at = folder.path();
    let output = pull(at, &server, &["hf:me/net"], &[], 0);
    let text = stdout(&output);
    assert!(text.contains("wrote net") && text.contains(COMMIT) && text.contains("onnx/model.onnx") && text.contains("id2label"), "{text}");
    assert_eq!(names(&at.join("net")), ["labels.txt", "model.onnx", "model.yaml"]);
    let yaml = std::fs::read_to_string(at.join("net/model.yaml")).unwrap();
    assert!(yaml.contains("bicubic") && yaml.contains("\"crop\":32"), "{yaml}");
    run(at, &["label", "photos", "--model", "net", "--out", "out.jsonl"], 0);
    assert!(records(&at.join("out.jsonl"))[0]["labels"][0]["label"].as_str().unwrap().starts_with("thing "));
    // What is there is not written over unasked, and what was downloaded is not downloaded again.
    assert!(stderr(&pull(at, &server, &["hf:me/net"], &[], 2)).contains("--force"));
    let json = stdout(&pull(at, &server, &["hf:me/net", "--force", "--json"], &[], 0));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["classes"].as_u64(), json["preprocess_from"].as_str()), (Some(10), Some("preprocessor_config.json")));
    assert_eq!(server.seen("store GET").len(), 1);
    // The cache has the form that the hub's other clients know.
    let cache = at.join("hf/hub/models--me--net");
    assert_eq!(std::fs::read_to_string(cache.join("refs/main")).unwrap(), COMMIT);
    let link = std::fs::read_link(cache.join("snapshots").join(COMMIT).join("onnx/model.onnx")).unwrap();
    let graph = std::fs::read(at.join("net/model.onnx")).unwrap();
    assert_eq!(link, Path::new("../../../blobs").join(sha256(&graph)));
    // A file that is named, and a name that the repository had before.
    pull(at, &server, &["hf:me/old@main:onnx/model.onnx", "--out", "named"], &[], 0);
    assert!(names(at).iter().all(|name| !name.starts_with('.')), "{:?}", names(at));
}

#[test]
fn without_a_network_the_cache_is_enough_and_what_is_missing_is_named() {
    let (folder, server) = hub();
    let offline = [("HF_HUB_OFFLINE", "1")];
    let error = stderr(&pull(folder.path(), &server, &["hf:me/net"], &offline, 1));
    assert!(error.contains("me/net at main") && error.contains("HF_HUB_OFFLINE"), "{error}");
    pull(folder.path(), &server, &["hf:me/net"], &[], 0);
    let before = server.seen("").len();
    pull(folder.path(), &server, &["hf:me/net", "--out", "again"], &offline, 0);
    assert_eq!(server.seen("").len(), before);
    assert!(
        stderr(&pull(folder.path(), &server, &["hf:me/net:other.onnx", "--out", "o"], &offline, 2)).contains("hf:me/net:onnx/model.onnx")
    );
    assert!(stderr(&pull(folder.path(), &server, &["resnet18"], &offline, 1)).contains("resnet18-f37072fd.pth"));
    // A blob that was damaged in the cache is not used.
    let blobs = folder.path().join("hf/hub/models--me--net/blobs");
    let large = names(&blobs).into_iter().find(|name| name.len() == 64).unwrap();
    std::fs::write(blobs.join(large), b"damaged").unwrap();
    assert!(stderr(&pull(folder.path(), &server, &["hf:me/net", "--out", "third"], &offline, 1)).contains("damaged"));
    pull(folder.path(), &server, &["hf:me/net", "--out", "third"], &[], 0);
}

#[test]
fn a_download_that_is_cut_off_goes_on_where_it_was() {
    let (folder, server) = hub();
    server.state.lock().unwrap().cuts = vec![1000, 500];
    let error = stderr(&pull(folder.path(), &server, &["hf:me/net"], &[], 0));
    assert!(error.contains("trying again"), "{error}");
    let requests = server.seen("store GET");
    assert!(requests.len() == 3 && requests[1].ends_with("bytes=1000-") && requests[2].ends_with("bytes=1500-"), "{requests:?}");
}

#[test]
fn a_command_that_failed_half_way_goes_on_when_it_is_given_again() {
    let (folder, server) = hub();
    let graph = std::fs::read(folder.path().join("model/model.onnx")).unwrap();
    let url = format!("{}/onnx/model.onnx?key=hunter2#sha256={}", server.store, sha256(&graph));
    let args = [url.as_str(), "--out", "one", "--resize", "32", "--crop", "32", "--mean", "0,0,0", "--std", "1,1,1"];
    server.state.lock().unwrap().cuts = vec![700, 0, 0, 0, 0];
    let error = stderr(&pull(folder.path(), &server, &args, &[], 1));
    assert!(error.contains("same command goes on") && !error.contains("hunter2"), "{error}");
    pull(folder.path(), &server, &args, &[], 0);
    assert!(server.seen("store GET").last().unwrap().ends_with("bytes=700-"));
    assert_eq!(std::fs::read(folder.path().join("one/model.onnx")).unwrap(), graph);
    // The beginning of another file under the same name.
    std::fs::write(folder.path().join(format!(".lakelens-pull-{}.part", &sha256(&graph)[..16])), vec![7; 900]).unwrap();
    pull(folder.path(), &server, &[&args[..2], &["two"], &args[3..]].concat(), &[], 0);
    assert!(names(folder.path()).iter().all(|name| !name.starts_with('.')), "{:?}", names(folder.path()));
}

#[test]
fn a_wrong_file_never_takes_the_place_of_a_good_one() {
    let (folder, server) = hub();
    let at = folder.path();
    pull(at, &server, &["hf:me/net", "--out", "m"], &[], 0);
    let good = std::fs::read(at.join("m/model.onnx")).unwrap();
    let elsewhere = at.join("elsewhere");
    let vars = [("HF_HOME", elsewhere.to_str().unwrap())];
    let mut damaged = good.clone();
    damaged[500] ^= 1;
    server.state.lock().unwrap().damaged.insert("onnx/model.onnx".into(), damaged);
    let error = stderr(&pull(at, &server, &["hf:me/net", "--out", "m", "--force"], &vars, 1));
    assert!(error.contains("SHA-256") && error.contains(&sha256(&good)), "{error}");
    // A small file, of which the hub says git's hash.
    let config = config().replace("thing", "thong");
    server.state.lock().unwrap().damaged = [("config.json".into(), config.into_bytes())].into();
    let anew = at.join("anew");
    let error = stderr(&pull(at, &server, &["hf:me/net", "--out", "m", "--force"], &[("HF_HOME", anew.to_str().unwrap())], 1));
    assert!(error.contains("config.json") && error.contains("not kept"), "{error}");
    // The right bytes, which are no network.
    server.state.lock().unwrap().damaged.clear();
    server.state.lock().unwrap().files.insert("onnx/model.onnx".into(), b"not a graph".to_vec());
    pull(at, &server, &["hf:me/net", "--out", "m", "--force"], &vars, 2);
    let url = format!("{}/onnx/model.onnx#sha256={}", server.store, sha256(&good));
    assert!(stderr(&pull(at, &server, &[&url, "--out", "m", "--force"], &vars, 1)).contains("another file"));
    assert_eq!(std::fs::read(at.join("m/model.onnx")).unwrap(), good);
    run(at, &["model", "inspect", "m"], 0);
    assert!(names(at).iter().all(|name| !name.starts_with('.')), "{:?}", names(at));
}

#[test]
fn a_gated_repository_says_how_to_get_in_and_the_token_goes_to_the_hub_alone() {
    let (folder, server) = hub();
    server.state.lock().unwrap().token = Some("hf_hunter2".into());
    let error = stderr(&pull(folder.path(), &server, &["hf:me/net"], &[], 1));
    assert!(error.contains("gated") && error.contains("HF_TOKEN"), "{error}");
    let output = pull(folder.path(), &server, &["hf:me/net"], &[("HF_TOKEN", "hf_hunter2"), ("RUST_LOG", "debug")], 0);
    assert!(!format!("{}{}", stdout(&output), stderr(&output)).contains("hunter2"));
    assert!(
        !server.seen("store").is_empty() && server.seen("store").iter().all(|line| !line.contains("Bearer")),
        "{:?}",
        server.seen("store")
    );
}

#[test]
fn what_the_hub_says_is_not_believed_where_it_leads_out_of_the_folder() {
    let (folder, server) = hub();
    server.state.lock().unwrap().listed.push("../../../evil.onnx".into());
    let error = stderr(&pull(folder.path(), &server, &["hf:me/net"], &[], 1));
    assert!(error.contains("evil.onnx") && error.contains("outside"), "{error}");
    assert_eq!(names(folder.path()), ["model", "photos"]);
}

#[test]
fn a_repository_that_says_too_little_is_told_of_with_what_to_type() {
    let (folder, server) = hub();
    let at = folder.path();
    server.state.lock().unwrap().files.remove("preprocessor_config.json");
    assert!(stderr(&pull(at, &server, &["hf:me/net"], &[], 2)).contains("--resize"));
    pull(at, &server, &["hf:me/net", "--resize", "32", "--crop", "32", "--out", "said"], &[], 0);
    server
        .state
        .lock()
        .unwrap()
        .files
        .insert("preprocessor_config.json".into(), PIXELS.replace("\"resample\": 3", "\"resample\": 1").into());
    assert!(stderr(&pull(at, &server, &["hf:me/net"], &[], 2)).contains("resample"));
    // A commit never changes, so another server's needs another cache.
    let anew = at.join("anew");
    let vars = [("HF_HOME", anew.to_str().unwrap())];
    let graph = server.state.lock().unwrap().files.remove("onnx/model.onnx").unwrap();
    for name in ["a.onnx", "b.onnx"] {
        server.state.lock().unwrap().files.insert(name.into(), graph.clone());
    }
    server.state.lock().unwrap().files.insert("preprocessor_config.json".into(), PIXELS.into());
    let error = stderr(&pull(at, &server, &["hf:me/net"], &vars, 2));
    assert!(error.contains("hf:me/net:a.onnx") && error.contains("hf:me/net:b.onnx"), "{error}");
    pull(at, &server, &["hf:me/net:b.onnx", "--out", "b"], &vars, 0);
    assert!(stderr(&pull(at, &server, &["hf:me/none"], &[], 1)).contains("there is no model me/none"));
    assert!(stderr(&pull(at, &server, &["https://h/m.onnx"], &[], 2)).contains("#sha256="));
}

#[test]
fn known_models_are_listed_and_checked_against_their_names() {
    let (folder, server) = hub();
    let list = stdout(&pull(folder.path(), &server, &["--list"], &[], 0));
    assert!(list.contains("resnet50-v1") && list.contains("80.9%") && list.contains("BSD-3-Clause"), "{list}");
    let json: Value = serde_json::from_str(&stdout(&pull(folder.path(), &server, &["--list", "--json"], &[], 0))).unwrap();
    assert_eq!((json.as_array().unwrap().len(), json[2]["resize"].as_u64()), (8, Some(232)));
    server.state.lock().unwrap().files.insert("resnet18-f37072fd.pth".into(), b"something else".to_vec());
    let error = stderr(&pull(folder.path(), &server, &["resnet18"], &[], 1));
    assert!(error.contains("f37072fd") && error.contains(&sha256(b"something else")), "{error}");
    assert!(stderr(&pull(folder.path(), &server, &["resnet-18"], &[], 2)).contains("did you mean resnet18?"));
}
