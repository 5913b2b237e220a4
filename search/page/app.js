// One page over /api/v1. Everything that comes from mail is set as text, never as HTML.

const $ = (id) => document.getElementById(id);
const state = { cursor: null, asked: 0, hits: [], selected: -1 };

// --- building elements -----------------------------------------------------------------------------------

/** An element with properties and children; strings become text. */
function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const day = (milliseconds) =>
  milliseconds ? new Date(milliseconds).toLocaleDateString(undefined, { dateStyle: "medium" }) : "no date";
const moment = (milliseconds) => (milliseconds ? new Date(milliseconds).toLocaleString() : "");
const number = (value) => Number(value).toLocaleString();

function bytes(size) {
  if (size === null || size === undefined) return "";
  const units = ["B", "KB", "MB", "GB"];
  let unit = 0;
  for (; size >= 1024 && unit < 3; unit++) size /= 1024;
  return `${size < 10 && unit ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

// --- asking the server -----------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, body) {
    super(body?.error?.message ?? `The server answered ${status}.`);
    this.status = status;
    this.position = body?.error?.position;
  }
}

async function ask(path, parameters = {}, options = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value));
  let answer;
  try {
    answer = await fetch(`/api/v1/${path}${query.size ? `?${query}` : ""}`, options);
  } catch {
    throw new Refused(0, { error: { message: "The server does not answer. Try again in a moment." } });
  }
  const body = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (answer.status === 401) signIn();
  if (!answer.ok) throw new Refused(answer.status, body);
  return body;
}

function problem(error, query = "") {
  $("problem").replaceChildren();
  $("problem").hidden = !error;
  if (!error) return;
  $("problem").append(error.message);
  if (error.position !== undefined && error.position !== null)
    $("problem").append("\n", element("code", {}, `${query}\n${" ".repeat(error.position)}^`));
}

// --- signing in ------------------------------------------------------------------------------------------

function signIn() {
  if (!$("sign-in").open) $("sign-in").showModal();
  $("token").focus();
}

$("sign-in").addEventListener("cancel", (event) => event.preventDefault());
$("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("sign-in-problem").textContent = "";
  try {
    await ask("session", {}, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token: $("token").value.trim() }),
    });
  } catch (error) {
    $("sign-in-problem").textContent = error.message;
    return;
  }
  $("token").value = "";
  $("sign-in").close();
  show();
});
$("leave-button").addEventListener("click", async () => {
  await ask("session", {}, { method: "DELETE" }).catch(() => null);
  location.assign("/");
});

// --- searching -------------------------------------------------------------------------------------------

/** Show what the address says: a query, and perhaps a message. */
async function show() {
  const address = new URLSearchParams(location.search);
  $("query").value = address.get("q") ?? "";
  $("mode").value = address.get("mode") ?? "hybrid";
  await Promise.all([search(), syncing(), openMessage(address.get("m"))]);
}

function go(changes) {
  const address = new URLSearchParams(location.search);
  for (const [key, value] of Object.entries(changes)) value ? address.set(key, value) : address.delete(key);
  history.pushState(null, "", `/?${address}`);
}

async function search(cursor = null) {
  const query = $("query").value.trim();
  const asked = ++state.asked;
  problem(null);
  if (!cursor) {
    state.hits = [];
    state.selected = -1;
    $("results").replaceChildren();
    $("facets").hidden = true;
  }
  $("more").hidden = true;
  if (!query) {
    $("summary").textContent = "Ask for words, a person, or a thing you remember: \"penalty for late delivery\".";
    return;
  }
  document.title = `${query} · Mailstream`;
  $("summary").textContent = "Searching…";
  $("results").setAttribute("aria-busy", "true");
  try {
    const parameters = { q: query, mode: $("mode").value, cursor };
    const [found, facets] = await Promise.all([
      ask("search", parameters),
      cursor ? null : ask("facets", { q: query }).catch(() => null),
    ]);
    if (asked !== state.asked) return;
    summarise(found, query);
    for (const hit of found.results) addHit(hit);
    state.cursor = found.next_cursor;
    $("more").hidden = !found.next_cursor;
    if (facets) showFacets(facets);
  } catch (error) {
    if (asked !== state.asked) return;
    $("summary").textContent = "";
    problem(error, query);
  } finally {
    $("results").removeAttribute("aria-busy");
  }
}

function summarise(found, query) {
  const line = $("summary");
  line.replaceChildren();
  if (found.corrected) line.append("Nothing holds these words as written; showing ", link(found.corrected), ". ");
  if (!found.results.length && !state.hits.length) {
    line.append(`Nothing found for “${query}”. Fewer words, or other ones, may help.`);
    for (const suggestion of found.suggestions ?? []) line.append(" ", link(suggestion));
  } else {
    const shown = state.hits.length + found.results.length;
    line.append(`${number(shown)} ${shown === 1 ? "message" : "messages"}${found.next_cursor ? ", and more" : ""}`);
  }
}

const link = (query) =>
  element("a", { href: `/?${new URLSearchParams({ q: query })}` }, query);

function addHit(hit) {
  const place = state.hits.push(hit) - 1;
  const key = `${hit.mailbox_id}/${hit.message_id}`;
  const address = new URLSearchParams(location.search);
  address.set("m", key);
  const entry = element("a", { className: "hit", href: `/?${address}`, "data-key": key },
    element("span", { className: "subject" }, hit.subject || "(no subject)"),
    element("span", { className: "quiet" }, ` — ${hit.sender}, ${day(hit.sent_at)}`),
    hit.copies?.length > 1 ? element("span", { className: "quiet" }, ` · in ${hit.copies.length} mailboxes`) : null,
    ...hit.matches.slice(0, 3).map((match) => element("span", { className: "snippet" },
      match.part_path ? element("span", { className: "place" }, match.where) : null,
      ...snippet(match.snippet))));
  entry.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    select(place);
    go({ m: key });
    openMessage(key, true);
  });
  $("results").append(element("li", {}, entry));
}

/** Runs of text, the marked ones as <mark>. */
const snippet = (runs) =>
  (runs ?? []).map((run) => (run.marked ? element("mark", {}, run.text) : document.createTextNode(run.text)));

function select(place, focus = true) {
  const entries = $("results").querySelectorAll(".hit");
  if (!entries.length) return;
  state.selected = Math.max(0, Math.min(place, entries.length - 1));
  entries.forEach((entry, at) => entry.setAttribute("aria-current", String(at === state.selected)));
  if (focus) entries[state.selected].focus();
}

// --- facets ----------------------------------------------------------------------------------------------

const FACETS = [["sender", "From"], ["label", "Label"], ["type", "Type"], ["month", "Month"]];

function showFacets(facets) {
  const groups = FACETS.filter(([name]) => facets[name]?.length).map(([name, title]) =>
    element("div", {}, element("h2", {}, title), element("ul", {}, ...facets[name].slice(0, 8).map((facet) => {
      const button = element("button", { type: "button", title: facet.query },
        element("span", { className: "name" }, facet.name),
        element("span", { className: "count" }, number(facet.count)));
      button.addEventListener("click", () => {
        $("query").value = `${$("query").value.trim()} ${facet.query}`;
        submit();
      });
      return element("li", {}, button);
    }))));
  $("facets").replaceChildren(...groups);
  $("facets").hidden = !groups.length;
}

// --- a message -------------------------------------------------------------------------------------------

async function openMessage(key, focus = false) {
  const pane = $("message");
  document.body.classList.toggle("reading", Boolean(key));
  pane.hidden = !key;
  if (!key) return;
  pane.replaceChildren(element("p", { className: "quiet", role: "status" }, "Loading…"));
  const [mailbox, id] = key.split("/");
  try {
    const message = await ask(`messages/${encodeURIComponent(mailbox)}/${encodeURIComponent(id ?? "")}`);
    pane.replaceChildren(...messageView(message));
  } catch (error) {
    pane.replaceChildren(backButton(), element("p", { role: "alert" }, error.message));
  }
  if (focus) pane.focus();
}

function backButton() {
  const button = element("button", { type: "button" }, "Back to results");
  button.addEventListener("click", closeMessage);
  return button;
}

function closeMessage() {
  go({ m: null });
  openMessage(null);
  select(state.selected);
}

function messageView(message) {
  const facts = [["From", message.sender], ["To", message.to.join(", ")], ["Cc", message.cc.join(", ")],
    ["Date", moment(message.sent_at)], ["Labels", message.labels.join(", ")], ["Mailbox", message.mailbox]];
  return [
    backButton(),
    element("h1", {}, message.subject || "(no subject)"),
    element("dl", {}, ...facts.filter(([, value]) => value)
      .flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)])),
    element("p", {},
      message.gmail_url
        ? element("a", { href: message.gmail_url, target: "_blank", rel: "noopener noreferrer" }, "Open in Gmail")
        : null,
      " ",
      message.thread_messages > 1 ? threadButton(message) : null),
    element("pre", { className: "text" }, message.text || "(no text)"),
    ...(message.attachments.length ? [element("h2", {}, "Attachments")] : []),
    ...message.attachments.map(attachmentView),
  ];
}

function attachmentView(attachment) {
  const facts = [attachment.content_type, bytes(attachment.size_bytes),
    attachment.pages ? `${attachment.pages} page${attachment.pages === 1 ? "" : "s"}` : "", attachment.outcome,
    attachment.scan === "off" ? "" : attachment.scan, attachment.truncated ? "shortened" : ""];
  return element("details", {},
    element("summary", {},
      element("span", { className: "badge" }),
      attachment.filename || `attachment ${attachment.part_path}`,
      element("span", { className: "quiet" }, ` ${facts.filter(Boolean).join(" · ")}`)),
    element("pre", { className: "text" }, attachment.text || `(no text: ${attachment.outcome})`));
}

function threadButton(message) {
  const button = element("button", { type: "button" }, `Thread (${message.thread_messages})`);
  button.addEventListener("click", async () => {
    try {
      const thread = await ask(`threads/${encodeURIComponent(message.mailbox_id)}/${encodeURIComponent(message.thread_id)}`);
      const list = element("ol", {}, ...thread.messages.map((other) => {
        const address = new URLSearchParams(location.search);
        address.set("m", `${other.mailbox_id}/${other.message_id}`);
        return element("li", {}, element("a", { href: `/?${address}` }, `${other.sender}, ${moment(other.sent_at)}`));
      }));
      button.replaceWith(list);
    } catch (error) {
      problem(error);
    }
  });
  return button;
}

// --- status ----------------------------------------------------------------------------------------------

async function syncing() {
  try {
    const { progress } = await ask("status");
    $("syncing").hidden = progress === null || progress >= 1;
    $("syncing").textContent = `Still syncing: ${Math.floor(progress * 100)} %. What is not read yet is not found.`;
  } catch {
    $("syncing").hidden = true;
  }
}

async function showStatus() {
  $("status-body").replaceChildren("Loading…");
  $("status").showModal();
  try {
    const status = await ask("status");
    const heads = ["Mailbox", "Phase", "Listed", "Messages", "Last read", "Quota left", "Dead letters"];
    const rows = status.mailboxes.map((box) => element("tr", {},
      element("th", { scope: "row" }, box.address), element("td", {}, box.phase),
      element("td", {}, box.total ? `${number(box.listed)} of ${number(box.total)}` : number(box.listed)),
      element("td", {}, number(box.messages)), element("td", {}, moment(box.read_at)),
      element("td", {}, box.quota === null ? "" : number(box.quota)), element("td", {}, number(box.dead_letters))));
    const counted = (title, counts) => [element("h2", {}, title), element("p", {},
      Object.entries(counts).map(([name, count]) => `${name}: ${number(count)}`).join(" · ") || "none")];
    $("status-body").replaceChildren(
      element("table", { tabIndex: 0 }, element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
        element("tbody", {}, ...rows)),
      ...counted("Outcomes of attachments", status.outcomes),
      ...counted("Waiting", status.lag));
  } catch (error) {
    $("status-body").replaceChildren(element("p", { role: "alert" }, error.message));
  }
}

// --- keys and buttons ------------------------------------------------------------------------------------

function submit() {
  go({ q: $("query").value.trim(), mode: $("mode").value === "hybrid" ? null : $("mode").value, m: null });
  openMessage(null);
  return search();
}

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
$("mode").addEventListener("change", () => $("query").value.trim() && submit());
$("more").addEventListener("click", () => search(state.cursor));
$("status-button").addEventListener("click", showStatus);
$("help-button").addEventListener("click", () => $("help").showModal());
addEventListener("popstate", show);

addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
  const inQuery = event.target === $("query");
  const reading = $("message").contains(event.target);
  if (event.key === "/" && !typing) {
    event.preventDefault();
    $("query").focus();
    $("query").select();
  } else if (event.key === "ArrowDown" && (!typing || inQuery) && !reading) {
    event.preventDefault();
    select(state.selected + 1);
  } else if (event.key === "ArrowUp" && !typing && !reading) {
    event.preventDefault();
    if (state.selected <= 0) $("query").focus();
    else select(state.selected - 1);
  } else if (event.key === "Escape" && !$("message").hidden) {
    closeMessage();
  }
});

show();
