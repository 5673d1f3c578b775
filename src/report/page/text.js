// Text and elements. Whatever came from outside goes through `shown` and becomes a text node.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

// Characters that are invisible, or that change how others are read, as their numbers.
const unseen = /[\p{Cc}\u00ad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;
const shown = (text) => String(text ?? "").replace(unseen, (c) => "\\u{" + c.codePointAt(0).toString(16) + "}");

// An element with attributes (`on` = what a click does) and children: elements, or text.
function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") node.addEventListener("click", value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

// A bar that is `share` of its track.
function meter(share, kind = "meter") {
  const fill = el("i");
  fill.style.width = 100 * Math.min(1, Math.max(0, share || 0)) + "%";
  return el("span", { class: kind, "aria-hidden": "true" }, fill);
}

const whole = new Intl.NumberFormat("en");
const count = (n, one, many = one + "s") => whole.format(n) + " " + (n === 1 ? one : many);
const score = (x) => (Number.isFinite(x) ? x.toFixed(Math.abs(x) < 100 ? 3 : 0) : "\u2013");
const rounded = (x) => (x >= 100 ? whole.format(Math.round(x)) : x >= 10 ? x.toFixed(1) : x.toPrecision(2));
function percent(part, all) {
  const share = all ? (100 * part) / all : 0;
  if (part > 0 && share < 0.1) return "under 0.1 %";
  if (part < all && share > 99.9) return "over 99.9 %";
  return (Number.isInteger(share) || share >= 10 ? Math.round(share) : share.toFixed(1)) + " %";
}
function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB", "TB", "PB", "EB"];
  let n = 0;
  while (bytes >= 1000 && n < units.length - 1) [bytes, n] = [bytes / 1000, n + 1];
  return (n ? rounded(bytes) : bytes) + " " + units[n];
}
function duration(seconds) {
  if (seconds < 60) return rounded(seconds) + " s";
  if (seconds < 5400) return rounded(seconds / 60) + " min";
  return seconds < 172800 ? rounded(seconds / 3600) + " h" : rounded(seconds / 86400) + " days";
}
// RFC 3339 as it may be read: to the second, in UTC.
const moment = (text) => {
  const found = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)/.exec(text ?? "");
  return found ? found[1] + " " + found[2] + " UTC" : shown(text);
};
// The last part of a URI.
const nameOf = (uri) => shown(uri.replace(/\/+$/, "").split("/").pop() || uri);
const bestOf = (item) => item.labels?.[0];
