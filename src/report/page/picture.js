// One picture: all that is known of it, and its neighbours.
const space = data.space;
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const vectors = space && new Int8Array(bytes(space.vectors).buffer);
const leftOut = space && bytes(space.left_out);
const rowOf = new Map(space?.items.map((n, row) => [n, row]));

// The nearest others of picture `n`, as [picture, cosine similarity]; null where it has no embedding that can be compared. The squared distance is that
// of the kept components and what both leave out, which has no direction in common.
function nearest(n, most) {
  const row = rowOf.get(n);
  if (row === undefined) return null;
  const width = space.components;
  const unit = (space.scale / 127) ** 2;
  const out = (i) => (leftOut[i] / 255) * space.left_out_scale;
  const found = space.items.map((other, i) => {
    let sum = 0;
    for (let k = 0; k < width; k++) sum += (vectors[i * width + k] - vectors[row * width + k]) ** 2;
    return [other, 1 - (sum * unit + out(i) + out(row)) / 2];
  });
  return found.filter(([other]) => other !== n).sort((a, b) => b[1] - a[1]).slice(0, most);
}

const dialog = byId("picture");
let opened = null;
let opener = null;

function open(n) {
  if (!dialog.open) opener = document.activeElement;
  opened = n;
  const item = items[n];
  byId("picture-title").replaceChildren(nameOf(item.uri));
  byId("picture-title").title = shown(item.uri);
  const list = (labels) => el("ol", { class: "scorelist" }, ...labels.map(([label, value]) => el("li", {}, el("span", { class: "out" }, shown(label)), el("span", {}, score(value)), value >= 0 && value <= 1 ? meter(value) : null)));
  const titled = (title, ...inside) => el("section", {}, el("h3", {}, title), ...inside);
  const heads = Object.entries(item.heads ?? {}).map(([name, labels]) => titled(shown(name), list(labels)));
  const tags = Object.entries(item.tags).map(([key, value]) => [shown(key), shown(value)]);
  const about = facts([["URI", mono(item.uri)], ["Id", item.id == null ? null : shown(item.id)], ["Size", item.width + " \u00d7 " + item.height + " pixels, " + size(item.bytes)], ["Format", shown(item.format)],
    ["ETag", mono(item.etag)], ["Version", mono(item.version)], ["SHA-256", mono(item.sha256)], ["Model", mono(item.model)], ["Space", mono(item.space)], ["Source", shown(item.source)],
    ["Event", item.event_time == null ? null : moment(item.event_time)], ["Labelled", moment(item.processed_at)], ["In the sample", items.length === data.records ? null : item.random ? "by chance" : "because the model is unsure"]]);
  const picture = el("div", {}, frame(item, "Thumbnail of " + nameOf(item.uri)), item.missing ? el("p", { class: "missing" }, "No thumbnail: " + item.missing + ".") : null);
  const left = el("div", {}, picture);
  const right = el("div", {}, item.labels?.length ? titled("Labels", list(item.labels)) : titled("Labels", el("p", { class: "hint" }, "This record carries none.")), ...heads,
    tags.length ? titled("Tags", facts(tags)) : null, titled("Record", about));
  byId("picture-body").replaceChildren(el("div", { class: "panel" }, left, right), neighbours(n));
  const at = hits.indexOf(n);
  byId("before").disabled = at <= 0;
  byId("after").disabled = at < 0 || at === hits.length - 1;
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  byId("close").focus({ preventScroll: true });
}

function neighbours(n) {
  const found = nearest(n, 12);
  const said = found
    ? "By cosine similarity of the embeddings, among the " + whole.format(space.items.length) + " pictures of the sample that have one. Approximate: found by " + space.components + " components, which hold " + percent(space.kept, 1) + " of the variance, a byte each."
    : items[n].space !== space?.space && space ? "The embedding is not of the space " + shown(space.space) + ", and cannot be compared." : "There is no embedding to compare.";
  const list = (found ?? []).map(([other, alike]) => el("li", {}, tile(other, alike.toFixed(2), () => open(other))));
  return el("section", { class: "nearest" }, el("h3", {}, "Nearest neighbours"), el("p", { class: "hint" }, said), el("ul", { class: "gallery" }, ...list));
}

(function controls() {
  const step = (by) => {
    const next = hits[hits.indexOf(opened) + by];
    if (next !== undefined && hits.includes(opened)) open(next);
  };
  byId("close").addEventListener("click", () => dialog.close());
  byId("before").addEventListener("click", () => step(-1));
  byId("after").addEventListener("click", () => step(1));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  dialog.addEventListener("close", () => {
    byId("picture-body").replaceChildren();
    if (opener?.isConnected) opener.focus();
    opener = null;
  });
})();
