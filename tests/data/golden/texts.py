"""The texts of the golden files: some by hand, some from the corpora of this repository, and some
composed, which is always of the same choice."""

import json
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[3]
WINDOW = 256

# Sentences to compose from, by script or kind.
KINDS = {
    "english": [
        "The crew replaced the filter before the second shift and wrote the reading in the log.",
        "Nobody remembers who painted the harbour bridge, but everyone agrees on its colour.",
        "A thin layer of ice had formed on the inlet; pressure fell by a third within minutes.",
    ],
    "german": [
        "Die Förderpumpe läuft seit gestern ungewöhnlich laut, und die Lager werden zu heiß.",
        "Über die Zuständigkeit für Straßenbeleuchtung entscheidet der Gemeinderat im März.",
    ],
    "romance": [
        "L'été dernier, la sœur du maçon a réparé le vieux moulin près de la forêt.",
        "El niño añadió azúcar al café y salió corriendo hacia la estación de tren.",
        "A inovação não é só tecnologia; é também a coragem de começar outra vez.",
    ],
    "slavic latin": [
        "Zażółć gęślą jaźń, powiedział nauczyciel, a potem zamknął ciężkie drzwi.",
        "Příliš žluťoučký kůň úpěl ďábelské ódy a město zůstalo tiché.",
    ],
    "turkish": [
        "Işıkları söndürmeden önce İstanbul'daki ölçüm değerlerini yeniden kontrol ediniz.",
        "Öğretmen, çocuklara ağaçların gölgesinde uzun bir masal anlattı.",
    ],
    "vietnamese": [
        "Trời hôm nay nhiều mây, nhưng chuyến tàu vẫn khởi hành đúng giờ.",
        "Người thợ đã sửa xong máy bơm nước và ghi lại kết quả đo áp suất.",
    ],
    "cyrillic": [
        "Насос остановился ночью, поэтому утром инженеры проверили каждый клапан.",
        "У лісі було тихо, лише їжак шурхотів листям біля ґанку.",
        "Съешь ещё этих мягких французских булок, да выпей чаю.",
    ],
    "greek": [
        "Η θερμοκρασία του νερού ανέβηκε ξαφνικά και ο μηχανικός έκλεισε τη βαλβίδα.",
        "Τα παλιά βιβλία της βιβλιοθήκης μυρίζουν σκόνη και θάλασσα.",
    ],
    "arabic": [
        "توقفت المضخة عن العمل ليلاً فاستدعى المدير فريق الصيانة في الصباح.",
        "يقرأ الأطفالُ الكتابَ تحت الشجرة الكبيرة، ثم يعودون إلى البيت.",
        "قیمت کتاب در این شهر ۲۵۰ تومان است و هوا سرد می‌شود.",
    ],
    "hebrew": [
        "המשאבה נעצרה בלילה, והמהנדסת בדקה את הלחץ בצינור הראשי.",
        "בְּרֵאשִׁית הָיָה שֶׁקֶט גָּדוֹל, וְאַחַר כָּךְ בָּאָה הָרוּחַ.",
    ],
    "devanagari": [
        "पंप रात में बंद हो गया, इसलिए सुबह इंजीनियर ने हर वाल्व की जाँच की।",
        "पुस्तकालय की पुरानी किताबों में धूल और समय की गंध आती है।",
    ],
    "bengali and tamil": [
        "নদীর ধারে পুরোনো কারখানার যন্ত্রটি আজ সকালে আবার চালু হয়েছে।",
        "ஆற்றங்கரையில் உள்ள பழைய இயந்திரம் இன்று காலை மீண்டும் இயங்கியது.",
    ],
    "thai": [
        "เครื่องสูบน้ำ หยุดทำงาน เมื่อคืนนี้ และ ช่างซ่อม จะมา ตอนเช้า",
        "เด็กๆ อ่านหนังสือ ใต้ต้นไม้ใหญ่ แล้ว กลับบ้าน",
    ],
    "chinese": [
        "昨天 夜里 水泵 突然 停止 运转 ， 工程师 今天 早上 检查 了 所有 阀门 。",
        "圖書館 的 舊書 有 灰塵 和 海 的 味道 。",
    ],
    "japanese": [
        "昨夜 ポンプ が 止まった ので 、 技術者 は 朝 から 弁 を 点検 した 。",
        "ﾃｽﾄ カタカナ ひらがな 漢字 を 混ぜた 文章 です ！",
    ],
    "korean": [
        "어젯밤에 펌프가 멈추어서 기술자가 아침 일찍 모든 밸브를 점검했다.",
        "도서관의 오래된 책에서는 먼지와 바다 냄새가 난다.",
    ],
    "caucasus and africa": [
        "ტუმბო ღამით გაჩერდა და ინჟინერმა დილით ყველა სარქველი შეამოწმა.",
        "Պոմպը կանգնեց գիշերը, և ինժեները ստուգեց բոլոր փականները։",
        "ፓምፑ ሌሊት ቆመ እና መሐንዲሱ ጠዋት መረመረው።",
    ],
    "emoji": [
        "done \u2705 ship it \U0001f680\U0001f680 thanks \U0001f64f\U0001f3fd team \U0001f469\u200d\U0001f4bb !",
        "rain \U0001f327\ufe0f then sun \u2600\ufe0f flags \U0001f1e9\U0001f1ea \U0001f1ef\U0001f1f5 hearts \u2764\ufe0f\u200d\U0001f525 1\ufe0f\u20e3",
    ],
    "code": [
        "fn main() -> Result<(), Box<dyn Error>> { let n: u64 = args.len() as u64; println!(\"{n:?}\"); }",
        "def f(x, *, y=None): return {k: v for k, v in x.items() if v is not None} # O(n)",
        "for (i = 0; i < 10; ++i) { a[i] ^= b[i] << 3 | ~c; } /* tail */ #include <stdio.h>",
    ],
    "numbers": [
        "2024-03-31T02:30:00Z 19,384.50 -0.003 6.02e23 0xDEADBEEF 192.168.0.1:8080 v1.2.3-rc.4",
        "12 \u00b5m \u00b1 0.5 % at 37 \u00b0C, 1\u2044\u2082 cup, \u20ac 9,99 \u2192 x\u00b2 + y\u00b2 = z\u00b2 \u2211 \u221e \u2264 \u03c0 \u2248 3.14",
    ],
    "markup": [
        "<p class=\"note\">Close the <b>inlet</b> &amp; wait.</p> | a | b | **bold** _it_ [link](http://a.example/x?y=1)",
        "{\"id\": 17, \"tags\": [\"pump\", null, true], \"path\": \"C:\\\\temp\\\\log.txt\"} key=value; other='x'",
    ],
    "controls": [
        "tab\there bell\u0007 zero\u200bwidth soft\u00adhyphen left\u200emark bom\ufeff line\u2028sep nul\u0000 end\u0085next",
        "e\u0301 a\u0308 o\u0302\u0323 n\u0303 \u1e9e \u0130 \u01c5 \ufb03 \u2163 \u212b \ufdfa \u0345 \u3000 \u00a0 \u202e rtl \u202c",
    ],
}

SINGLE = list(".,;:!?()-") + ["the", "of", "7", "pump"]


class Dice:
    """A generator whose numbers do not depend on the version of Python (Numerical Recipes' LCG)."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 1664525 + 1013904223) % 2**32
        return (self.state >> 8) * n >> 24


def by_hand():
    long = "The committee reviewed the measured lift of a swept wing at supersonic speed. "
    return [
        "",
        " ",
        "\n\t\r\n",
        "a",
        "Hello, world!",
        "hello world",
        "HELLO WORLD",
        "How do I reset the pressure valve on pump 3B?",
        "The quick brown fox jumps over the lazy dog.",
        "what similarity laws must be obeyed when constructing aeroelastic models of heated high "
        "speed aircraft .",
        "Kubernetes autoscaling, Prometheus metrics & Grafana dashboards: a field guide (2nd ed.)",
        "SELECT id FROM nodes WHERE tenant = 'acme' -- not a real query; x != y && z >= 0x1F",
        "https://example.org/path?query=1&other=%20#fragment user.name+tag@example.org",
        "3.14159 2,718,281 1e-9 +49 (0)30 123456 $1,299.00 99.9% 12:30 2024-02-29",
        "don't can't it's o'clock rock'n'roll e-mail state-of-the-art under_score",
        "Crème brûlée, naïve façade, Ångström, Übergrößenträger, piñata, Škoda, Łódź",
        "Zu den Aufgaben gehört die Überwachung der Kühlwasserpumpen im Maschinenhaus.",
        "La población se concentra en la costa y en los valles del interior.",
        "Быстрая коричневая лиса перепрыгивает через ленивую собаку.",
        "Η γρήγορη αλεπού πηδάει πάνω από το τεμπέλικο σκυλί.",
        "敏捷的棕色狐狸跳过懒狗。東京は日本の首都です。",
        "서울은 대한민국의 수도이다",
        "القاهرة عاصمة مصر",
        "ירושלים היא עיר עתיקה",
        "दिल्ली भारत की राजधानी है",
        "กรุงเทพมหานครเป็นเมืองหลวง",
        "party time \U0001f389\U0001f680 family \U0001f468\u200d\U0001f469\u200d\U0001f467 ok",
        "e\u0301 and \u00e9, \ufb01ligree, \u2460 \u00bd \u2122 \u2014 \u2026 \u201cquoted\u201d \u00a0nbsp",
        "control\u0000char\u0007acters\u200band zero\u2060width\ufeffmarks",
        "[CLS [SEP mask] literal brackets [0] [12]",
        "x" * 99,
        "x" * 101 + " after the endless word",
        "ab" * 5000,
        "! ? . , ; : ' \" ( ) [ ] { } < > / \\ | @ # $ % ^ & * - _ = + ~ `",
        "word " * 252,
        "word " * 254,
        "word " * 256,
        long * 3,
        long * 12,
        long * 40,
        "Mixed: 東京 Tokyo 東京 2024年 café 3本 " * 20,
        "Note: valve A needs a seal kit.\n\n- Step 1: close the inlet\n- Step 2: drain\n\n| a | b |",
    ]


def special():
    """Short ones, and what no sentence above holds."""
    words = "pump", "Ölstand", "насос", "泵", "مضخة", "\U0001f600", "§", "\u00bd", "0", "Q.E.D."
    kinds = [sentence for sentences in KINDS.values() for sentence in sentences]
    mixed = [" ".join(kinds[i::11]) for i in range(11)]
    return [
        *words,
        *mixed,
        "[CLS]",
        "a [SEP] b [MASK] c [PAD] d [UNK]",
        "no\u00a0break\u2009thin\u3000wide\u180evowel\u2003em",
        "\u202eright to left override\u202c and \u2066isolate\u2069",
        "\ufffd replaced \ufffd\ufffd surrogates",
        "\U000e0041\U000e0042 tags \ue000 private \uf8ff use",
        "q\u0307\u0323 \u1e69 s\u0323\u0307 \u00c5 A\u030a \u212b \uac00 \u1100\u1161",
        "ｆｕｌｌ ｗｉｄｔｈ １２３ ！？ ﾊﾝｶｸ",
        "a" * 100 + " " + "b" * 101 + " c",
        "pneumonoultramicroscopicsilicovolcanoconiosis " * 12,
        "0123456789" * 9 + " " + "9" * 200,
        "\n".join(f"{i}. item {i * i}" for i in range(60)),
        "WHY IS EVERYTHING IN CAPITALS? BECAUSE THE OPERATOR LEFT CAPS LOCK ON, THAT IS WHY.",
        "... --- ... " * 30,
    ]


def corpora(n_docs=110, n_queries=40, n_countries=24):
    def lines(path):
        return [json.loads(line) for line in (ROOT / path).read_text(encoding="utf-8").splitlines()]

    def some(items, n):
        return [items[i * len(items) // n] for i in range(n)]

    docs = some(lines("tests/data/cranfield/docs.jsonl"), n_docs)
    texts = [f"{doc['title']}. {doc['text']}" if doc["title"] else doc["text"] for doc in docs]
    texts += [query["text"] for query in some(lines("tests/data/cranfield/queries.jsonl"), n_queries)]
    # Cut: what lies far beyond the window only costs room.
    texts += [country["text"][:2000] for country in some(lines("assets/demo/countries.jsonl"), n_countries)]
    return texts


def composed(n, count):
    """`n` texts of the kinds in turn. Text i has exactly 3 + (i * 97) % 254 word pieces by `count`,
    beginning and end included: of 254 texts each has another length, 3 to 256."""
    dice, kinds = Dice(4), list(KINDS.values())
    for i in range(n):
        target = 3 + (i * 97) % 254
        sentences, parts, size = kinds[i % len(kinds)], [], 2
        while size < target:
            words = sentences[dice.below(len(sentences))].split(" ")
            start = dice.below(len(words)) if len(parts) == 0 else 0
            for word in words[start:]:
                pieces = count(word) - 2
                if size + pieces > target:
                    # The rest is of words that are one piece each.
                    word, pieces = SINGLE[dice.below(len(SINGLE))], 1
                parts.append(word)
                size += pieces
                if size == target:
                    break
        yield " ".join(parts)


def golden(count, n=500):
    """`n` texts that differ; `count` is the number of word pieces of a text."""
    texts = list(dict.fromkeys([*by_hand(), *special(), *corpora()]))
    texts += composed(n - len(texts), count)
    assert len(set(texts)) == n, "two texts are the same"
    return texts
