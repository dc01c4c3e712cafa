"""Pairs (found, gold) by kind of answer: the same, and not the same."""

SAME = {
    "integers": [
        ("18", "18"), ("18.0", "18"), ("018", "18"), ("+7", "7"), ("-0", "0"), ("18.", "18"),
    ],
    "thousands": [
        ("1,000", "1000"), ("1{,}000", "1000"), (r"1\,000", "1000"), ("1 000", "1000"),
        (r"1,\!000", "1000"), ("12,345,678", "12345678"), ("1,234.50", "1234.5"),
    ],
    "fractions": [
        (r"\frac{1}{2}", "0.5"), (r"\dfrac12", r"\frac{1}{2}"), ("2/4", "1/2"), ("-3/4", r"-\frac{3}{4}"),
        (r"\frac{-3}{4}", r"-\frac34"), (r"\frac{3}{-4}", r"-\frac34"), ("½", "0.5"),
        (r"\tfrac{10}{4}", "5/2"),
    ],
    "mixed numbers": [
        ("1 1/2", "3/2"), (r"1\frac12", "1.5"), (r"2\frac{5}{8}", "2.625"), (r"-2\frac12", "-2.5"),
    ],
    "scientific notation": [
        (r"3 \times 10^{3}", "3000"), ("2.5E2", "250"), ("1e-3", "0.001"), (r"5.1\cdot10^{-2}", "0.051"),
        ("6.02×10²³", "6.02E23"),
    ],
    "repeating decimals": [
        (r"0.\overline{3}", "1/3"), ("0.333...", "1/3"), (r"0.1\overline{6}", "1/6"), ("0.(3)", "1/3"),
        (r"0.142857142857\ldots", "1/7"), (r"1.\dot{3}", "4/3"),
    ],
    "radicals": [
        (r"\sqrt{8}", r"2\sqrt{2}"), (r"\frac{1}{\sqrt2}", r"\frac{\sqrt2}{2}"),
        (r"\sqrt[3]{16}", r"2\sqrt[3]{2}"), ("sqrt(12)", r"2\sqrt3"), ("√2", r"\sqrt{2}"),
        (r"\sqrt[3]{-8}", "-2"), ("3^(1/2)", r"\sqrt3"), (r"\sqrt{3+2\sqrt2}", r"1+\sqrt2"),
        (r"5\cdot 2^{2/3}", r"5\sqrt[3]{4}"),
    ],
    "expressions": [
        ("x^2+2x+1", "(x+1)^2"), ("2*x + 3", "3+2x"), (r"\frac{x+2}{7}", r"\frac x7+\frac27"),
        ("a(b+c)", "ab+ac"), (r"\sin^2 x + \cos^2 x", "1"), (r"\tan^2 y+1", r"\sec^2(y)"),
        (r"\sin 2x", r"2\sin x\cos x"), (r"\ln(ab)", r"\ln b + \ln a"), (r"\frac{x^2-1}{x+1}", "x-1"),
        ("-1/2*x", r"-\frac{x}{2}"), ("e^{2x}", "(e^x)^2"), (r"\log_2 8", "3"), (r"\log_{10} 100", "2"),
        ("x**2", "x^2"), ("xy", "yx"), ("|x|^2", "x^2"), (r"\sin^{-1}(x)", r"\arcsin x"),
        ("2^{n+1}", r"2\cdot2^n"), ("2^10", "1024"), (r"\cos(n\pi)", "(-1)^n"),
        (r"\frac{d}{2k}", r"\frac{d}{k}\cdot\frac12"), ("x_1+x_2", "x_2+x_1"),
    ],
    "complex numbers": [
        (r"e^{i\pi}", "-1"), ("i(2-i)", "1+2i"), (r"\sqrt{-1}", "i"), (r"\cos t+i\sin t", "e^{it}"),
        (r"\frac{5}{4} e^{\frac{i \pi}{6}}", r"\frac{5 \sqrt{3}}{8} + \frac{5}{8} i"),
    ],
    "combinatorics": [
        (r"\binom{5}{2}", "10"), ("5!", "120"), ("(n+1)!", "(n+1)n!"),
        (r"\frac{n!}{k!(n-k)!}", r"\binom{n}{k}"), (r"\sum_{k=1}^{n} k", r"\frac{n(n+1)}{2}"),
    ],
    "sets and lists": [
        ("1, 3, 2", "1,2,3"), (r"\{2,1\}", r"\{1,2\}"), (r"\{1,2\}", "1, 2"), ("6 and 8", "8, 6"),
        ("2 or 3", "3,2"), (r"6 \text{ and } 8", "6,8"), (r"\{1,1,2\}", r"\{1,2\}"),
        (r"1 \pm \sqrt{2}", r"1-\sqrt2, 1+\sqrt2"), (r"\pm 3", "-3, 3"), (r"0, \pm 1", r"\{-1,0,1\}"),
        ("(1,2), (3,4)", "(3,4),(1,2)"), ("5; 7", "7,5"), (r"(\pm 1, 2)", "(1,2),(-1,2)"),
        ("19, 46, and 82", r"46, 82, \text{ and } 19"),
    ],
    "tuples, vectors, matrices": [
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"), ("3, 4", "(3,4)"),
        (r"\langle 1,2\rangle", "(1,2)"), (r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)"),
        (r"\begin{bmatrix}1&2\\3&4\end{bmatrix}", r"\begin{pmatrix}1&2\\3&\frac{8}{2}\end{pmatrix}"),
        ("(-32+3t, 64-5t)", "(-32+3k, 64-5k)"),
    ],
    "intervals and inequalities": [
        ("[1, 2)", "[1,2)"), ("1 < x < 2", "(1,2)"), ("2 > x > 1", "(1,2)"), (r"x \ge 3", r"[3,\infty)"),
        (r"(-\infty,0)\cup(0,\infty)", r"x \neq 0"), (r"\{x | x > 1\}", r"(1,\infty)"), ("x>1", "2<2x"),
        ("-x > -1", "x < 1"), (r"x < -3 \text{ or } 1 < x", r"(-\infty,-3)\cup(1,\infty)"),
        (r"\mathbb{R}", r"(-\infty,\infty)"), (r"(-\infty, 1] \cup [0, 4)", r"(-\infty,4)"),
        (r"x \in [-2,7]", r"-2\le x\le 7"), (r"a \leqslant 0", r"(-\infty,0]"),
        (r"\mathbb{R}\setminus\{1\}", r"x\ne1"), (r"[1,2]\cap[2,3]", r"\{2\}"), ("y > x", "x < y"),
        (r"x^2 \le 2x", r"2x \ge x^2"), ("x < 2 and x > 1", "(1,2)"),
        (r"\text{all real numbers}", r"\mathbb{R}"), ("[-1,1]", r"|x| \le 1"),
    ],
    "equations": [
        ("y = 2x - 5", "2y = 4x - 10"), ("y=2x-5", "2x-y-5=0"), ("x = 5", "5"), ("5", "x=5"),
        ("f(x) = x+1", "x+1"), ("f(n)=2n", "f(m) = 2m"), ("y = 2x", "f(x) = 2x"), ("x+y=1", "y=1-x"),
        ("x=y=z=2", "2"), ("x = 2+3 = 5", "5"), ("x=2, y=3", "(2,3)"), ("x = 2 or x = -3", "x=-3,2"),
        ("(x,y)=(1,2)", "x=1, y=2"), ("w=16, d=3", "16,3"),
        (r"\begin{cases}x=1\\y=2\end{cases}", "x=1,y=2"), ("|x|=|y|", r"x=y \text{ or } x=-y"),
        ("ab=0", r"a=0 \text{ or } b=0"), (r"\frac1x+\frac1y=2", r"y=\frac{x}{2x-1}"), ("6/x", "xy=6"),
        ("2 + 2 = 4", "4"), (r"\frac{\sqrt3}{3} \approx 0.577", r"\frac{1}{\sqrt3}"),
    ],
    "units": [
        ("10 cm", "10"), ("10", r"10\text{ cm}"), ("100 cm", r"1 \text{ m}"), (r"10\text{ cm}^2", "10"),
        ("1152 cups", "1152"), (r"2\text{ hours}", "120 minutes"), ("36 km/h", "10 m/s"),
        ("2 hours 30 minutes", "150 minutes"), (r"5\text{ square units}", "5"), ("3 m", "3 meters"),
        ("15th", "15"),
    ],
    "angles": [
        (r"90^\circ", "90"), ("90°", r"\frac{\pi}{2}"), (r"\frac{\pi}{6}", "30°"),
        (r"\sin 30^\circ", "1/2"), ("45 degrees", r"45^\circ"),
    ],
    "per cent": [
        (r"10\%", "0.1"), ("0.1", r"10\%"), ("10 percent", r"10\%"), (r"12.5\%", r"\frac{1}{8}"),
    ],
    "money": [
        (r"\$18", "18"), ("$1,000.00", "1000"), ("5 dollars", r"\$5"), ("500 cents", r"\$5"),
        (r"-\$3", "-3"),
    ],
    "times, dates, ratios": [
        ("12:30", "12:30"), ("9:00 a.m.", r"9:00 \text{ AM}"), ("2:1", "4:2"), ("2:1", "2"),
        (r"1 : \frac43", "3/4"), ("1:2:3", "2:4:6"), ("May 5, 2020", "may 5 2020"),
    ],
    "base n": [
        ("1011_2", "1011_{2}"), ("1011", "1011_2"),
    ],
    "congruences": [
        (r"3 \pmod 5", r"3 \pmod{5}"),
    ],
    "text": [
        (r"\text{Evelyn}", "evelyn"), ("Yes.", "yes"), (r"\text{even}", "Even"),
        ("line segment, circle", r"\text{circle and line segment}"),
    ],
    "choices": [
        ("B", "(B)"), (r"\text{(B)}", "B"), (r"\textbf{B}", "B"), ("B) 5", "B"), ("C", "C Cecile"),
        ("Cecile", "(C) Cecile"), ("(B) 5", "(B) 5"),
    ],
    "no solution": [
        (r"\emptyset", r"\{\}"), ("no solution", r"\emptyset"),
        (r"\varnothing", r"\text{no real solutions}"), (r"\text{does not exist}", "DNE"),
        (r"\text{infinitely many}", r"\infty"),
    ],
    "decimal comma": [
        ("1000,99", "1000.99"), ("2,5", "2.5"),
    ],
    "spellings of all sorts": [
        ("√22", r"\sqrt{22}"), ("sqrt16", "4"), (r"{10 \choose 3}", r"\binom{10}{3}"),
        ("C_{10}^{3}", "120"), (r"{a \over b}", "a/b"), ("ab^2", "a b^2"), (r"6\pi rh^2", r"6\pi r h^2"),
        ("sin2x", r"\sin 2x"), ("[[5,-7],[-2,3]]", r"\begin{pmatrix}5&-7\\-2&3\end{pmatrix}"),
        (r"f(x)=x \text{ for all } x\in\mathbb{R}", "f(x)=x"), ("2x, x>1", "2x (x>1)"),
        ("f(x)=cx", "f(x)=kx"), (r"x=n\pi", r"x=k\pi"), ("x^2+c", "x^2+C"),
        ("there are no solutions", r"\emptyset"), ("twelve", "12"), ("one third", "1/3"), ("3 to 5", "3:5"),
        (r"37^\circ 30'", r"37.5^\circ"), ("Jan 5", r"\text{January 5}"), ("5:00 PM", "17:00"),
        ("Rs. 930", "930"), (r"7\text{ h } 30\text{ min}", "450 minutes"), (r"9.8\text{ m/s}^2", "9.8"),
        ("AC = 187.5 cm", r"1.875\text{ m}"), (r"2021_{\text{three}}", "2021_3"), ("(2021)_3", "2021_3"),
        (r"\color{red}{7}", "7"), ("= 7", "7"), ("Minimum: 1, Maximum: 3", "1,3"),
        (r"\tan\theta = \frac34", "3/4"), (r"\Gamma(n+1)", "n!"),
        (r"x \equiv 10 \pmod 7", r"x\equiv3\pmod{7}"), (r"x\neq 0, 2", r"x\ne0,x\ne2"),
        (r"5<x<\infty", "x>5"), (r"B. \frac12", "B"), ("0.5", r"B. \frac12"),
        (r"\frac{180^\circ}{7}", r"\frac{\pi}{7}"), ("log_10(100)", "2"),
        ("5000000 dollars", r"\$5 \text{ million}"), ("YES", "yes"), ("x_1=2, x_2=-3", "x=2 or x=-3"),
    ],
    "lost escapes": [
        ("\x0crac{1}{2}", "1/2"), ("3\times 2", "6"), ("5 \text{ cm}", "5"),
    ],
}  # fmt: skip
"""Found and gold say the same."""

DIFFERENT = {
    "numbers": [
        ("0.33", "1/3"), ("3.14", r"\pi"), ("0.333", "1/3"), ("0.0", "10^{-9}"), ("0.0000001", "0.0000002"),
        ("28", "0.28"), ("2500", "25"), ("1/2004!", "1/2006!"), ("1/2^{99}", "1/2^{98}"), ("-5", "5"),
        ("1 2", "12"), ("32, 349", "32349"), ("5", "50"), ("1.0001", "1"),
        (r"\frac{10^{100}+1}{10^{100}}", "1"), (r"\sqrt{4^{2012}+1}", r"\sqrt{4^{2012}+2}"),
        ("4^10", "5^10"), ("nan", "0"), ("1/0", "5"),
    ],
    "fished numbers": [
        ("4√2 + 8", "8"), ("2 + sqrt(3), 2 - sqrt(3)", "2"), ("9, 18, 27, 36, ...", "36"), ("AZYUK2A", "2"),
        (r"\text{not } 5", "5"), ("___3___", "3"), (r"5 \text{ or maybe } 6", "5"), ("5?", "5"),
        ("probably 5", "5"), ("5 - 2", "5"), ("5 more than x", "5"), ("n^5", "5"),
    ],
    "hedged and spammed": [
        ("5 or 6", "5"), ("5, 6", "6"), ("1,2,3,4,5,6,7,8,9", "5"), (r"5 \pm 1", "5"), (r"5 \neq 6", "5"),
        ("8=7", "7"), ("x=5=6", "6"), ("x=5=6", "5"), (r"\{1,2,3\}", r"\{1,2\}"), ("1,1,2", "1,2"),
        ("1 or 2 or 3", "1,2"), ("x > 0", "5"), ("[0,10]", "5"), (r"\mathbb{R}", "5"), ("=", "5"),
    ],
    "expressions": [
        (r"\sqrt{x^2}", "x"), ("x^2+2x", "(x+1)^2"), (r"\sin(\pi x)", "0"), ("(-2)^n", "(-2)^{n-1}"),
        ("f(x)", "g(x)"), ("x", "X"), ("f(x)", "f(y)"), (r"\ln(x^2)", r"\ln x"),
        (r"\sqrt{x-3}\sqrt{x-5}", r"\sqrt{(x-3)(x-5)}"), ("(x-a)^{5999}", "(x-a)^{6000}"),
        ("x+2n+1", "x+1"), (r"\frac{1}{(n+1)!}", r"\frac{n}{n!}"), ("(+5)(b+2)", "(a+5)(b+2)"), ("4i", "4"),
        ("p-2", "2"),
    ],
    "order and ends": [
        ("(2,1)", "(1,2)"), ("[0,1)", "(0,1)"), ("(0,9)", "[0,9)"), ("[1,3]", r"\{1,3\}"),
        (r"(\frac{\pi}{2}, 3)", r"(3,\frac{\pi}{2})"), ("[1,2,3]", "(1,3,2)"), (r"\{(1,2)\}", "(2,1)"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&3\\2&4\end{pmatrix}"),
        ("3, 16", "w=16, d=3"), ("(1,2),(4,3)", "(1,2),(3,4)"),
    ],
    "inequalities": [
        ("x > 1", r"x \ge 1"), ("x<1", "x>1"), (r"(-\infty,5)", "x>5"), ("x > 2", "x>1"), ("y>x", "x>y"),
        ("x > 1", "1"), (r"x \ne 2", r"x\ne1"), (r"(0,1)\cup(1,2)", "(0,2)"), ("a<0, b>0", r"a\le0, b>0"),
        ("x^2 > 4", r"x<-2 \text{ or } x>2"), ("x>3 and x<1", "x>4 and x<2"),
    ],
    "equations": [
        ("y = x", "y=-x"), ("1", "2x+z=1"), ("0", "a^2+b=0"), ("x=1", "(x-1)^3=0"), ("x=2", "x=1"),
        ("x = 5", "y = 5"), ("x+2=18", "18"), ("x^2=4", r"\pm2"), (r"\sin x = 0", "x=0"),
        ("x=y", "|x|=|y|"), ("1=1", "x=1"), ("x^2-5x+6=0", "2,3"), ("y=x^2", "y=x^2+1"),
    ],
    "units": [
        ("10 m", "10 cm"), ("5 kg", "5 m"), (r"5\text{ cm}^2", r"5\text{ cm}"), ("5 cents", r"\$5"),
        ("5 thousand", "5"), ("12 apples", "12 oranges"), ("3 pm", "3 am"), ("2 hours", "2 minutes"),
        ("50 km/h", "50 m/s"), ("90", r"\frac{\pi}{2}"), (r"1^\circ", r"1\text{ radian}"), ("€5", r"\$5"),
    ],
    "per cent": [
        (r"10\%", "10"), (r"28\%", "28"), ("10", r"10\%"), (r"x\%", "x"),
    ],
    "times, dates, ratios": [
        ("1:00", "12:00"), ("2:1", "1:2"), ("1:2:3", "1:2:4"), ("May 5", "May 6"), ("3:00 pm", "3:00 am"),
    ],
    "base n": [
        ("1011_2", "1011_3"), ("1010_2", "10_{10}"), ("1112112_3", "1121121_3"),
    ],
    "congruences": [
        (r"3 \pmod 5", r"3 \pmod 7"), ("3", r"3 \pmod 5"),
    ],
    "text": [
        ("oddd", "odd"), ("odd", "even"), ("Alice", "Bob"), (r"\text{}", r"\text{}"), (r"\text{}", "$"),
        ("yes or no", "yes"), ("not even", "even"),
    ],
    "choices": [
        ("C", "(A) Cecile"), ("D", "B"), ("A or B", "A"), ("(A), (B)", "A"), ("A", r"\text{A circle}"),
        ("Alice", "(C) Cecile"),
    ],
    "no solution": [
        (r"\emptyset", "0"), ("0", r"\emptyset"), ("no solution", "5"), (r"\infty", "5"),
    ],
    "decimal comma": [
        ("2,5", "25"), ("1.5", "1,5"), ("2, 5", "2.5"),
    ],
    "attacks": [
        (r".5 \text{ cm}", r"5 \text{ cm}"), (".5 cats", "5 cats"), ("ab c", "ab-c"), ("2rr", "2Rr"),
        ("ab", "AB"), ("2in", "2an"), (r"\sqrt{2+1}?", r"\sqrt{2}+1"), (r"\sqrt2?", r"a\sqrt2"),
        (r"2\pi R?", r"2\pi r"), ("(ab)^2", "ab^2"), ("x^2y^2", "xy^2"), ("y=e^{(2x)^2}", "y=e^{2x^2}"),
        (r"y=\sin((2x)^2)", r"y=\sin(2x^2)"), ("5 for all x, 6, 7, 8", "5"), ("5 where 7, 8, 9", "5"),
        (r"5 \forall 6,7,8", "5"), ("5 where the answer is 6", "5"), (r"5 (x\in\{6,7\})", "5"),
        ("x+1 where x = 6", "x+1"), (r"k\pi (k\in\{0\})", r"k\pi"),
        ("2n for positive n, 3n for n odd", "2n"), (r"k\pi, k\in\mathbb{N}", r"k\pi, k\in\mathbb{Z}"),
        (r"x>0, x\in\mathbb{Z}", "x>0"), (r"\text{not}: 5", "5"), ("at most = 5", "5"), ("Wrong: 5", "5"),
        ("5 squared", "5"), ("5 tenths", "5"), ("5 alternatively", "5"), ("5 below zero", "5"),
        ("12 at least", "12"), ("5 hundred thousand", "500"), (r"599 \approx 600", "600"),
        (r"42.3 \approx 42", "42"), (r"\approx 5", "5"), ("1125899906842623.5", "2^{50}"),
        ("0.999999999999999", "1"), ("7.00000000000001", "7"), ("3x+5=20", "x=5"),
        ("x-1=0, 2y=4", "x=1,y=2"), ("2x+1>7", "x>3"), ("1<2x+3<11", "-1<x<4"), ("x+y=5", "5"),
        (r"\sum_{k=1}^{10}k^2", "385"), (r"\{2x | x>1\}", r"(1,\infty)"), ("y>1", "x>1"), (r"\bar z", "z"),
        ("Re(z)", "z"), (r"z+\bar z", "2z"), ("c=5,d=6", "a=5,b=6"), ("y=1,z=2", "x=1,y=2"),
        ("y=1,x=2", "(1,2)"), ("(y,x)=(1,2)", "(1,2)"), ("11_2", "11"), ("5_{6}", "5"),
        ("A) B) C) D)", "A"), ("C. D", "C"), ("(B) (C)", "B"), ("A: not B", "A"), ("5", "(B) .5"),
        ("2X+1", "(A) 2x+1"), (r"\boxed{5},6,7,8", "5"), (r"x\ne\boxed{5}", "5"), ("5^text", "5"),
        ("5{6}", "30"), ("1/4040", "01/02/2020"), ("2017", "2020-01-02"),
        (r"(-\infty,-1.41421)\cup(1.41421,\infty)", "x^2>2"), (r"7+\frac{10^{-70}}{\sqrt2\sqrt2-2}", "7"),
        ("√10", "0"), ("√22", r"2\sqrt2"), ("2^", "2"), ("2_", "2"), ("either 7", "7"), ("12, 12", "12"),
        ("0", "I(0)"), (r"-441\text{ pounds}", r"441\text{ pounds}"), (r"n\neq\pm2", r"n\neq\pm1"),
        ("4:03 p.m.", "4:30 p.m."), ("5 PM", "5 AM"), (r"2XX^\top W", r"2X^\top XW"),
    ],
    "second attack": [
        ("x", r"x \approx 5.2"), (r"x\approx 9.9", r"x \approx 5.2"), ("0:0", "2:3"), ("0:0:0", "1:2:3"),
        ("e", "e^{st}"), ("1+r", "(1+r)^{nd}"), ("5", "5st"), ("4", "3nd+1"), ("f(x)=a^2", "f(x)=x^2"),
        ("f(x)=2k", "f(x)=2x"), ("f(y,x)=x-y", "f(x,y)=0"), ("x=0 and y=0", "x=0 or y=0"),
        ("(0,0)", "x=0 or y=0"), ("1 or 2", "(1,2)"), (r"\$5 \text{ million}", r"\$5"),
        ("5 thousand dollars", "5"), ("5 hundred cm", "5"), ("5 millions", "5"), ("12 gross", "12"),
        ("ab cd", "ab, cd"), ("xyz abc", "xyz-abc"), ("and B", "A and B"), ("Plan", "Plan A"),
        (r"\mathbb R (x\ne5)", r"\mathbb R"), (r"\{1,2,3\} (x\ne2)", r"\{1,2,3\}"), ("x<5 (x>0)", "x<5"),
        (r"k\pi, k>0", r"k\pi, k\in\mathbb{Z}"), (r"2x, x\in\{5\}", "2x"), (r"5 (5\ne5)", "5"),
        ("n-k", "|n-k|"), ("n", r"\max(n,k)"), ("0", r"\binom kn"), ("-1", "(-1)^N"), ("50-x", "|x-50|"),
        ("0", r"\lfloor n/20\rfloor"), (r"\lfloor n/5\rfloor", r"\lfloor n/5\rfloor+\lfloor n/25\rfloor"),
        ("4 units", "4s"), ("6 cats", "6s^2"), ("5 apples", "5 miles"), ("5 mg", "5 Mg"), ("ABC", "CAB"),
        ("XIV", "XVI"), ("A(3,4), B(1,2)", "A(1,2), B(3,4)"), (r"x>\infty", r"\mathbb R"),
        (r"5<x>\infty", r"(5,\infty)"), (r"\frac{ab\sin c}2", r"\frac{ab\sin C}2"), ("c", "C"),
        ("A", "A: 3, B: 5"), ("maybe 5", "May 5"), ("Mary 5", "March 5"),
        ("f(3)=2,f(4)=3", "f(1)=2,f(2)=3"), ("CD=3,DE=4", "AB=3,BC=4"), (r"\displaystyle.5", "5"),
        ("(5,3)", "C(5,3)"), ("x^2", "x^2+C_1^2"), ("x | y=5", "5"), ("$1$ $234$", "1234"),
        ("p", r"\hat p"), ("z", "z*"),
    ],
}  # fmt: skip
"""Found is no right answer."""
