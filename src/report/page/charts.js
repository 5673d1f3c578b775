// Counts of all records: figures, labels, scores, rejections, origin.
const all = data.records;
const seen = all + data.rejections;
const bars = data.scores.bars;
const scored = bars.reduce((sum, n) => sum + n, 0);

(function figures() {
  const models = [...new Set(data.makers.map((maker) => maker.model))];
  const by = models.length > 1 ? models.length + " models" : shown(models[0]?.split("@")[0] ?? "");
  byId("title").textContent = all ? count(all, "picture") : data.rejections ? count(data.rejections, "rejection") : "No records";
  document.title = "Lakelens report: " + byId("title").textContent;
  const parts = [all ? "Labelled by " + by : "Nothing was labelled"];
  if (data.rejections) parts.push(count(data.rejections, "reference") + (data.rejections === 1 ? " was" : " were") + " rejected");
  const from = data.inputs.length > 3 ? count(data.inputs.length, "input") : data.inputs.map(shown).join(", ");
  byId("lede").append(el("span", { class: "out" }, parts.join("; ") + ". From " + from + ", on " + moment(data.made) + "."));
  const figure = (name, value, unit) => byId("figures").append(el("div", {}, el("dt", {}, name), el("dd", {}, value, unit ? el("small", {}, " " + unit) : null)));
  figure("pictures with a record", whole.format(all));
  figure("rejected", whole.format(data.rejections), data.rejections ? percent(data.rejections, seen) : "");
  if (data.label_count) figure("labels seen", whole.format(data.label_count), data.label_count_is_exact ? "" : "or more");
  if (scored) figure("mean best score", score(data.scores.mean));
  if (data.time?.per_second) figure("throughput", rounded(data.time.per_second), "pictures/s");
  figure("of picture files", ...size(data.bytes).split(" "));
})();

(function labels() {
  const list = byId("label-bars");
  const most = data.labels[0]?.count ?? 1;
  const buttons = new Map();
  const row = ({ label, count: n, mean_score }) => {
    const said = shown(label) + ": " + count(n, "picture") + ", mean score " + score(mean_score);
    const name = el("span", { class: "name out" }, shown(label));
    const button = el("button", { type: "button", "aria-pressed": "false", title: said, "aria-label": said, on: () => show({ label: wanted.label === label ? null : label }) },
      name, meter(n / most, "track"), el("span", { class: "count" }, whole.format(n)));
    buttons.set(label, button);
    list.append(el("li", {}, button));
  };
  const step = 14;
  let rows = 0;
  const more = byId("more-labels");
  const add = (number) => {
    data.labels.slice(rows, rows + number).forEach(row);
    rows = Math.min(data.labels.length, rows + number);
    more.hidden = rows === data.labels.length;
    more.textContent = "Show " + whole.format(Math.min(100, data.labels.length - rows)) + " more labels";
    mark();
  };
  const mark = () => buttons.forEach((button, label) => button.setAttribute("aria-pressed", String(wanted.label === label)));
  add(step);
  more.addEventListener("click", () => add(100));
  listeners.push(mark);
  const rest = [];
  if (data.other_labels) rest.push(count(data.other_labels, "picture") + " of further labels");
  if (data.unlabelled) rest.push(count(data.unlabelled, "record") + " without labels");
  if (!data.labels.length) byId("labels-hint").textContent = all ? "These records carry no labels." : "There are no records.";
  else if (rest.length) byId("labels-hint").append(" Beside these: " + rest.join(", ") + ".");
})();

(function scores() {
  if (!scored) {
    byId("scores-hint").textContent = data.scores.beyond ? "The scores are no probabilities from 0 to 1, so they are not drawn." : "These records carry no scores.";
    return byId("score-bars").parentNode.querySelectorAll(".columns, .scale").forEach((drawn) => drawn.remove());
  }
  const most = Math.max(...bars);
  const buttons = bars.map((n, bar) => {
    const [from, to] = [bar / bars.length, (bar + 1) / bars.length];
    const said = from.toFixed(2) + " to " + to.toFixed(2) + ": " + count(n, "picture") + ", " + percent(n, all);
    const fill = el("i");
    fill.style.height = n ? Math.max(1.5, (100 * n) / most) + "%" : "0";
    const same = () => wanted.from === from && wanted.to === to;
    const button = el("button", { type: "button", "aria-pressed": "false", "aria-label": said, title: said, disabled: !n, on: () => show(same() ? { from: 0, to: 1 } : { from, to }) }, fill);
    listeners.push(() => button.setAttribute("aria-pressed", String(same())));
    return button;
  });
  byId("score-bars").append(...buttons);
  const below = bars.slice(0, bars.length / 2).reduce((sum, n) => sum + n, 0);
  byId("scores-said").append(below ? count(below, "picture") + ", " + percent(below, scored) + ", have a best score under 0.5. " : "No picture has a best score under 0.5. ",
    el("button", { type: "button", class: "quiet", on: () => show({ ...everything(), order: "unsure" }) }, "Show the least sure first"));
  if (data.scores.beyond) byId("scores-said").append(" " + count(data.scores.beyond, "score") + " beyond 0 to 1 are not drawn.");
  const unsure = data.labels.filter((label) => label.count >= Math.min(5, all / 50)).sort((a, b) => a.mean_score - b.mean_score).slice(0, 5);
  if (data.labels.length < 3 || !unsure.length) return;
  const row = ({ label, count: n, mean_score }) => el("li", {}, el("button", { type: "button", on: () => show({ ...everything(), label, order: "unsure" }), "aria-label": shown(label) + ": mean score " + score(mean_score) + ", " + count(n, "picture") },
    el("span", { class: "name out" }, shown(label)), meter(mean_score, "track"), el("span", { class: "count" }, score(mean_score))));
  byId("unsure-labels").append(el("h3", {}, "Labels with the lowest mean score"), el("ol", { class: "bars" }, ...unsure.map(row)));
})();

const reasons = {
  bad_reference: "could not be read as a reference", forbidden_location: "bucket, folder, host or address not allowed", not_found: "the object is not there",
  access_denied: "access to this object is denied", archived: "the object is in an archive", changed: "the object is another one than was meant",
  fetch_failed: "the server gave another answer that will not change", unavailable: "still failing while others from there succeed", empty: "the file has no bytes",
  too_large: "the file is larger than allowed", too_many_pixels: "the picture has more pixels than allowed", unsupported_format: "not a picture of a known format",
  corrupt_image: "the file is broken", decode_timeout: "decoding took too long", model_failed: "this picture alone made the model fail",
  crashed: "the process that decodes died on it", record_too_large: "the record would not fit the topic",
};
(function rejections() {
  byId("rejections-said").textContent = data.rejections
    ? count(data.rejections, "reference") + " of " + whole.format(seen) + " (" + percent(data.rejections, seen) + ") left without a record. The first ones of each reason are named."
    : "Nothing was rejected, or the rejections are in files that were not given.";
  const example = ({ uri, stage, detail }) => el("li", {}, el("span", { class: "out mono" }, uri == null ? "(no URI)" : shown(uri)), el("span", { class: "out detail" }, shown(detail) + (stage ? " (" + shown(stage) + ")" : "")));
  for (const { reason, count: n, examples } of data.reasons) {
    const why = Object.hasOwn(reasons, reason) ? reasons[reason] : "";
    byId("reasons").append(el("details", { class: "reason" }, el("summary", {}, el("b", { class: "out" }, shown(reason) || "(no reason)"), el("span", { class: "why" }, why), el("span", { class: "count" }, whole.format(n))), el("ul", {}, ...examples.map(example))));
  }
  if (data.other_reasons) byId("reasons").append(el("p", { class: "said" }, count(data.other_reasons, "rejection") + " of further reasons."));
})();

// Pairs of a name and a text or element, without those that are null.
const facts = (pairs) => el("dl", { class: "facts" }, ...pairs.filter(([, value]) => value != null && value !== "").flatMap(([name, value]) => [el("dt", {}, name), el("dd", { class: "out" }, value)]));
const mono = (text) => (text == null ? null : el("span", { class: "mono" }, shown(text)));

(function origin() {
  const spaces = new Set(data.makers.map((maker) => maker.space));
  if (spaces.size > 1) byId("makers").append(el("p", { class: "said" }, "These records are of " + spaces.size + " embedding spaces. Embeddings of different spaces cannot be compared: the map and the neighbours are of the most frequent one in the sample."));
  for (const maker of data.makers.slice(0, 12)) {
    byId("makers").append(el("div", { class: "maker" }, facts([["Model", mono(maker.model)], ["Preprocessing", mono(maker.preprocess)], ["Arithmetic", shown(maker.precision)],
      ["Embedding", maker.dim ? whole.format(maker.dim) + " values, space " + shown(maker.space) + ", scaling " + shown(maker.normalize) : "none"], ["Records", whole.format(maker.count) + " (" + percent(maker.count, all) + ")"]])));
  }
  const others = data.other_makers + data.makers.slice(12).reduce((sum, maker) => sum + maker.count, 0);
  if (others) byId("makers").append(el("p", { class: "said" }, count(others, "record") + " of further models."));
  byId("files").append(el("h3", {}, "Files"), facts([["Formats", data.formats.map(([format, n]) => shown(format) + " " + whole.format(n)).join(", ")],
    ["Together", size(data.bytes)], ["On average", all ? size(Math.round(data.bytes / all)) + ", " + rounded(data.megapixels / all || 0) + " megapixels" : null], ["With an embedding", whole.format(data.embedded)]]));
  const time = data.time;
  byId("speed").append(el("h3", {}, "Speed"));
  if (!time) return byId("speed").append(el("p", { class: "hint" }, "The records carry no times."));
  byId("speed").append(facts([["First record", moment(time.first)], ["Last record", moment(time.last)], ["Between them", duration(time.seconds)], ["Throughput", time.per_second ? rounded(time.per_second) + " pictures a second, pauses included" : null]]));
  // Few records make a comb of many bars, in which micro-batches are seen and not the speed.
  let [slots, width] = [time.bars, time.bar_seconds];
  while (slots.length > Math.max(12, 1.5 * Math.sqrt(all))) [slots, width] = [slots.filter((_, n) => n % 2 === 0).map((n, i) => n + (slots[2 * i + 1] ?? 0)), 2 * width];
  if (slots.length < 3) return;
  const most = Math.max(...slots);
  const bar = (n) => {
    const fill = el("i");
    fill.style.height = (100 * n) / most + "%";
    return fill;
  };
  byId("speed").append(el("div", { class: "spark", role: "img", "aria-label": "Records over time; at most " + rounded(most / width) + " a second" }, ...slots.map(bar)),
    el("p", { class: "hint" }, "Records over time, a bar for each " + duration(width) + "; at most " + rounded(most / width) + " a second."));
})();

(function about() {
  const random = items.filter((item) => item.random).length;
  const drawn = random === all ? "All " + whole.format(all) + " pictures can be looked at." : "Counts are of all " + whole.format(all) + " records; pictures, map and neighbours are of a sample of " + whole.format(items.length) + ": "
    + whole.format(random) + " drawn at random, and " + whole.format(items.length - random) + " more that the model is least sure of.";
  byId("sample-said").textContent = all ? drawn : "There are no records to show.";
  byId("about").append(el("p", {}, "Made by " + data.program + ". " + (all ? drawn : "")), el("p", {}, "A reference that was read twice, as after a crash, counts twice. This file needs no network and loads nothing."));
})();
