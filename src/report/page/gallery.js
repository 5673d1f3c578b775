// The pictures that are wanted, a page at a time.
const PAGE = matchMedia("(max-width: 36rem)").matches ? 36 : 96;

function frame(item, alternative) {
  const inside = item.thumbnail
    ? el("img", { src: "data:image/jpeg;base64," + item.thumbnail, alt: alternative, decoding: "async" })
    : el("span", { class: "blank mono out" }, shown(item.uri.length > 90 ? "\u2026" + item.uri.slice(-88) : item.uri));
  return el("span", { class: "frame" }, inside);
}

// A button that opens picture `n`; `figure` stands beside its label.
function tile(n, figure, open) {
  const item = items[n];
  const best = bestOf(item);
  const label = best ? shown(best[0]) : "no label";
  const said = label + ", " + figure + ", " + nameOf(item.uri);
  return el("button", { type: "button", class: "tile", "aria-label": said, title: shown(item.uri), "data-item": n, on: open },
    frame(item, ""), el("span", { class: "what" }, el("b", { class: "out" }, label), el("span", {}, figure)),
    best && best[1] >= 0 && best[1] <= 1 ? meter(best[1]) : null, el("span", { class: "which out" }, item.id != null ? shown(item.id) : nameOf(item.uri)));
}

(function gallery() {
  const list = byId("gallery");
  const more = byId("more");
  let drawn = 0;
  const add = () => {
    const next = hits.slice(drawn, drawn + PAGE);
    list.append(...next.map((n) => el("li", {}, tile(n, score(bestOf(items[n])?.[1]), () => open(n)))));
    drawn += next.length;
    more.hidden = drawn >= hits.length;
    more.textContent = "Show " + whole.format(Math.min(PAGE, hits.length - drawn)) + " more of " + whole.format(hits.length - drawn);
  };
  more.addEventListener("click", () => {
    const first = drawn;
    add();
    list.children[first]?.querySelector("button").focus();
  });

  const options = [...new Set(items.map((item) => bestOf(item)?.[0]).filter((label) => label != null))].sort((a, b) => a.localeCompare(b));
  const select = byId("label");
  select.append(el("option", { value: "" }, "all labels"), ...options.map((label, n) => el("option", { value: String(n) }, shown(label))));
  const number = (id, otherwise) => (byId(id).value === "" || !Number.isFinite(byId(id).valueAsNumber) ? otherwise : byId(id).valueAsNumber);
  const read = () => want({ words: byId("search").value.trim(), label: select.value === "" ? null : options[Number(select.value)] ?? wanted.label, from: number("from", 0), to: number("to", 1), order: byId("order").value });
  byId("filters").addEventListener("input", read);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("clear").addEventListener("click", () => {
    want(everything());
    byId("search").focus();
  });

  const chips = () => {
    const list = [];
    if (wanted.words) list.push(["\u201c" + shown(wanted.words) + "\u201d", { words: "" }]);
    if (wanted.label !== null) list.push([shown(wanted.label), { label: null }]);
    if (!everyScore()) list.push(["score " + wanted.from.toFixed(2) + " to " + wanted.to.toFixed(2), { from: 0, to: 1 }]);
    return list.map(([name, undo]) => el("li", {}, el("button", { type: "button", "aria-label": "Remove the filter " + name, on: () => { want(undo); byId("search").focus(); } }, el("span", { class: "out" }, name), " \u00d7")));
  };
  const draw = () => {
    list.replaceChildren();
    drawn = 0;
    add();
    const label = options.indexOf(wanted.label);
    // A label that only pictures outside the sample have.
    select.querySelector("[data-other]")?.remove();
    if (wanted.label !== null && label < 0) select.append(el("option", { value: "other", "data-other": true }, shown(wanted.label)));
    select.value = wanted.label === null ? "" : label < 0 ? "other" : String(label);
    if (byId("search").value.trim() !== wanted.words) byId("search").value = wanted.words;
    for (const [id, value, none] of [["from", wanted.from, 0], ["to", wanted.to, 1]]) {
      if (number(id, none) !== value) byId(id).value = value === none ? "" : String(Math.round(value * 100) / 100);
    }
    byId("order").value = wanted.order;
    const found = chips();
    byId("chips").replaceChildren(...found);
    byId("clear").hidden = !found.length && wanted.order === "given";
    const none = wanted.label !== null && label < 0 ? " Pictures of this label are not in the sample." : found.length ? " Remove a filter to see more." : "";
    byId("hits").textContent = hits.length ? (found.length ? whole.format(hits.length) + " of " + count(items.length, "picture") : count(items.length, "picture")) : items.length ? "No picture is like that." + none : "";
  };
  listeners.push(draw);
  draw();
})();
