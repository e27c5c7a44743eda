// What is shown, as a URL: ?q=cat&f=category:animals, ?like=ASSET, ?picture=N, and #ASSET while details are open.

const pictures = new Map(); // dropped pictures live as long as the page; `lost` is the address of one that does not

export function read() {
  const query = new URLSearchParams(location.search);
  const picture = pictures.get(query.get("picture")) ?? null;
  const lost = query.has("picture") && !picture;
  const filters = query
    .getAll("f")
    .map((text) => text.split(/:(.*)/s, 2))
    .filter(([field, value]) => field && value)
    .map(([field, value]) => ({ field, value }));
  return {
    text: (query.get("q") ?? "").trim(),
    like: query.get("like"),
    picture,
    lost,
    filters: lost ? [] : filters,
    open: location.hash.slice(1) || null,
  };
}

export function address({ text = "", like = null, picture = null, filters = [] }) {
  const query = new URLSearchParams();
  if (like) query.set("like", like);
  else if (picture) query.set("picture", keep(picture));
  else if (text.trim()) query.set("q", text.trim());
  for (const { field, value } of filters) query.append("f", `${field}:${value}`);
  const search = query.toString();
  return search ? `/?${search}` : "/";
}

export function go(state, { replace = false } = {}) {
  const url = address(state);
  if (url === location.pathname + location.search && !location.hash) return false;
  history[replace ? "replaceState" : "pushState"]({}, "", url);
  return true;
}

function keep(picture) {
  for (const [name, known] of pictures) if (known === picture) return name;
  const name = Date.now().toString(36); // never that of a picture from before the page was loaded anew
  pictures.set(name, picture);
  return name;
}
