"""What a browser gets, and what it is told about it."""

from __future__ import annotations

import gzip
import re
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from chatproto.web.assets import STATIC, Assets, banner, stamp
from chatproto.web.headers import frame_fields
from chatproto.web.pages import pages
from tests.web.asking import Asked, Response

SHOPS = ("https://shop.example", "https://shop.example:8443")
HOSTS = ("https://cdn.example",)


def directives(response: Response) -> dict[str, str]:
    """The Content-Security-Policy by its names."""
    parts = [part.strip().partition(" ") for part in response.fields["content-security-policy"].split(";")]
    return {name: value for name, _, value in parts}


class Tree(SynchronousTestCase):
    """A small ``static/`` of the test's own."""

    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="chatproto-test-"))
        self.addCleanup(shutil.rmtree, self.root)
        self.write(
            "console/index.html",
            '<meta content="{{image-hosts}}"><meta content="{{recall-within}} {{max-text}}">'
            '<link href="{{static}}/console/main.css">{{preload}}'
            '<script type="module" src="{{static}}/console/main.js"></script>',
        )
        self.write("console/main.css", "body { color: red }")
        self.write("console/main.js", "import { a } from '../shared/a.js';\nimport {\n  b,\n} from './b.js';\n")
        self.write("console/b.js", "export { c } from '../shared/c.js';\nexport const b = './no.js';\n")
        self.write("shared/a.js", "export const a = 1;\n" * 40)
        self.write("shared/c.js", "import './d.js';")
        self.write("shared/d.js", "import '../console/b.js';")
        self.write("widget/frame.html", "<body></body>")
        self.write("widget/loader.js", "window.chatproto = [];")
        self.write("demo/index.html", "shop")
        self.write("demo/product.html", "product")
        self.write("demo/img/lamp.svg", "<svg/>")
        self.write("secret.py", "never served")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)

    def get(self, path: str, *, demo: bool = False, method: str = "GET", **fields: str) -> Response:
        assets = Assets(self.root)
        found = pages(
            assets,
            image_hosts=HOSTS,
            recall_within=90.0,
            max_text=700,
            shops=SHOPS,
            login=None,
            demo=(lambda: "token") if demo else None,
        )
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        return Asked(found, f"{method} {path.replace('VERSION', assets.version)}", named).response


class ServingTests(Tree):
    def test_page(self) -> None:
        """The console's page names all its modules at once, under addresses that a browser may keep for ever."""
        page = self.get("/console/")
        self.assertEqual((page.status, page.fields["content-type"]), (200, "text/html; charset=utf-8"))
        version = Assets(self.root).version
        preloaded = re.findall(r'rel="modulepreload" href="/static/(\w+)/([^"]+)"', page.text)
        self.assertEqual({of for of, _ in preloaded}, {version})
        self.assertEqual(
            {name for _, name in preloaded},
            {"console/main.js", "console/b.js", "shared/a.js", "shared/c.js", "shared/d.js"},
        )
        self.assertIn('content="https://cdn.example"', page.text)
        self.assertIn('content="90.0 700"', page.text)
        self.assertNotIn("{{", page.text)
        self.assertEqual(page.fields["cache-control"], "no-cache")

    def test_types(self) -> None:
        """Modules run only with the right type, as browsers are told not to guess."""
        for name, type_ in (
            ("console/main.js", "text/javascript; charset=utf-8"),
            ("console/main.css", "text/css; charset=utf-8"),
        ):
            asset = self.get(f"/static/VERSION/{name}")
            self.assertEqual((asset.status, asset.fields["content-type"]), (200, type_))
            self.assertEqual(asset.fields["x-content-type-options"], "nosniff")
            self.assertIn("immutable", asset.fields["cache-control"])

    def test_nothing_else(self) -> None:
        """What is no file of the pages is not there: no source, no folder, no way out."""
        for path in (
            "/static/VERSION/secret.py",
            "/static/VERSION/console/index.html",
            "/static/VERSION/../secret.py",
            "/static/VERSION/%2e%2e/%2e%2e/site.py",
            "/static/VERSION//etc/passwd",
            "/static/VERSION/console/",
            "/static/VERSION",
            "/static/",
            "/static/other/console/main.js",
            "/console/main.js",
            "/console/login/",
            "/demo/",
            "/frame/x",
        ):
            self.assertEqual(self.get(path).status, 404, path)

    def test_other_version(self) -> None:
        """A page of a node that is not upgraded yet works here too, and what it gets is not kept."""
        asset = self.get("/static/0123456789ab/console/main.js")
        self.assertEqual((asset.status, asset.fields["cache-control"]), (200, "no-store"))

    def test_methods(self) -> None:
        """Pages are read; HEAD says the same without the body."""
        self.assertEqual(self.get("/console/", method="POST").status, 405)
        self.assertEqual(self.get("/static/VERSION/shared/a.js", method="DELETE").status, 405)
        head, page = self.get("/console/", method="HEAD"), self.get("/console/")
        # A second may begin between the two.
        self.assertEqual((head.status, head.body, head.fields | {"date": page.fields["date"]}), (200, b"", page.fields))

    def test_packed(self) -> None:
        """Who takes gzip gets less; who does not gets the same content."""
        plain = self.get("/static/VERSION/shared/a.js")
        packed = self.get("/static/VERSION/shared/a.js", Accept_Encoding="br;q=1, gzip;q=0.8")
        self.assertEqual(packed.fields["content-encoding"], "gzip")
        self.assertEqual(gzip.decompress(packed.body), plain.body)
        self.assertLess(len(packed.body), len(plain.body))
        self.assertNotEqual(packed.fields["etag"], plain.fields["etag"])
        for taken in ("*", "*;q=0, GZIP;q=0.1", "gzip ;q=1.000"):
            answer = self.get("/static/VERSION/shared/a.js", Accept_Encoding=taken)
            self.assertEqual(answer.body, packed.body, taken)
        for refused in ("identity", "gzip;q=0", "gzip; q=0.0", "", "*, gzip;q=0", "gzip;\tQ=0.000"):
            answer = self.get("/static/VERSION/shared/a.js", Accept_Encoding=refused)
            self.assertNotIn("content-encoding", answer.fields, refused)
            self.assertEqual(answer.fields["vary"], "Accept-Encoding")

    def test_unchanged(self) -> None:
        """A page that is already there is not sent again, and is when it has changed."""
        tag = self.get("/console/", Accept_Encoding="gzip").fields["etag"]
        for known in (tag, f'"x", W/{tag}', "*"):
            again = self.get("/console/", If_None_Match=known)
            self.assertEqual((again.status, again.body), (304, b""), known)
            self.assertNotIn("content-length", again.fields)
            self.assertEqual(again.fields["etag"].strip('"')[:20], tag.strip('"')[:20])
        self.write("shared/a.js", "export const a = 2;")
        self.assertEqual(self.get("/console/", If_None_Match=tag).status, 200)

    def test_slash(self) -> None:
        """Who leaves out the slash is sent to the address with it, on the same host, whatever was asked."""
        for path, to in (("/console", "console/"), ("/demo", "demo/")):
            answer = self.get(path, demo=True)
            self.assertEqual((answer.status, answer.fields["location"]), (308, to))

    def test_demo(self) -> None:
        """The demo shop is there only where the operator wants it."""
        self.assertEqual(self.get("/demo/", demo=True).text, "shop")
        self.assertEqual(self.get("/demo/product.html?id=7", demo=True).text, "product")
        self.assertEqual(self.get("/demo/img/lamp.svg", demo=True).fields["content-type"], "image/svg+xml")
        for path in ("/demo/", "/demo/product.html", "/demo/img/lamp.svg"):
            self.assertEqual(self.get(path).status, 404, path)


class SmallCopyTests(Tree):
    def test_used(self) -> None:
        """A small copy made of these sources is served in their place, and nothing is loaded beside it."""
        self.write("console/main.min.js", banner(stamp(self.root)).decode() + "small()")
        page = self.get("/console/")
        self.assertIn("/console/main.min.js", page.text)
        self.assertNotIn("modulepreload", page.text)
        self.assertIn("small()", self.get("/static/VERSION/console/main.min.js").text)
        self.write("widget/loader.min.js", banner(stamp(self.root)).decode() + "tiny()")
        self.assertIn("tiny()", self.get("/widget.js").text)

    def test_stale(self) -> None:
        """After a change of any source the old copy is not served: nobody works on what is not shown."""
        self.write("console/main.min.js", banner(stamp(self.root)).decode() + "small()")
        self.write("shared/d.js", "changed();")
        self.assertNotIn(".min.", self.get("/console/").text)
        self.assertEqual(self.get("/static/VERSION/console/main.min.js").status, 404)


class PolicyTests(Tree):
    def test_console(self) -> None:
        """The console runs our own scripts only, evaluates nothing, and is framed by nobody."""
        page = self.get("/console/")
        policy = directives(page)
        self.assertEqual(policy["default-src"], "'self'")
        self.assertNotIn("script-src", policy)
        self.assertNotIn("style-src", policy)
        self.assertNotIn("unsafe", page.fields["content-security-policy"])
        self.assertEqual(policy["img-src"], "'self' blob: https://cdn.example")
        for name, value in (
            ("media-src", "'self' blob:"),
            ("object-src", "'none'"),
            ("base-uri", "'none'"),
            ("frame-ancestors", "'none'"),
            ("require-trusted-types-for", "'script'"),
            ("trusted-types", "'none'"),
        ):
            self.assertEqual(policy[name], value, name)
        self.assertEqual(page.fields["x-frame-options"], "DENY")
        self.assertEqual(page.fields["referrer-policy"], "no-referrer")

    def test_frame(self) -> None:
        """The guest's panel may stand in the pages of the configured shops and in no others."""
        page = self.get("/frame")
        policy = directives(page)
        self.assertEqual(policy["frame-ancestors"], "'self' https://shop.example https://shop.example:8443")
        self.assertEqual((policy["default-src"], policy["trusted-types"]), ("'self'", "'none'"))
        self.assertNotIn("x-frame-options", page.fields)
        self.assertEqual(page.fields["cross-origin-embedder-policy"], "credentialless")
        self.assertEqual(page.fields["cross-origin-resource-policy"], "cross-origin")
        alone = dict(frame_fields((), SHOPS))
        self.assertEqual(alone[b"Cross-Origin-Embedder-Policy"], b"require-corp")

    def test_loader(self) -> None:
        """Any shop's page may load the loader, also an isolated one, and gets the newest."""
        loader = self.get("/widget.js")
        self.assertEqual(loader.fields["content-type"], "text/javascript; charset=utf-8")
        self.assertEqual(loader.fields["cross-origin-resource-policy"], "cross-origin")
        self.assertEqual(loader.fields["cache-control"], "no-cache")
        self.assertIn("etag", loader.fields)


class OurPagesTests(SynchronousTestCase):
    def test_no_inline(self) -> None:
        """Our pages have no script, style or handler inside, which the policy would stop."""
        found = sorted(STATIC.rglob("*.html"))
        self.assertTrue(found)
        for page in found:
            text = page.read_text()
            self.assertNotRegex(text, r"(?i)<style|\sstyle=|\son[a-z]+=|javascript:", page.name)
            for attributes, inside in re.findall(r"(?is)<script([^>]*)>(.*?)</script>", text):
                self.assertIn("src=", attributes, page.name)
                self.assertEqual(inside.strip(), "", page.name)
