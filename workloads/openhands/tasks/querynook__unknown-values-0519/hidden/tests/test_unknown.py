import unittest

from querynook import Database


class UnknownTests(unittest.TestCase):
    def setUp(self):
        self.db = Database()
        self.db.table("staff", ["id", "name", "boss", "pay"], [
            [1, "Ada", None, 900], [2, "Bo", 1, None], [3, "Cy", 1, 700], [4, "Di", 9, None]])
        self.db.table("room", ["staff", "room"], [[1, "A"], [3, "B"], [3, "C"], [None, "D"]])
        self.db.table("empty", ["x"], [])

    def names(self, condition):
        return [name for name, in self.db.query("SELECT name FROM staff WHERE " + condition)]

    def test_comparisons(self):
        self.assertEqual(self.names("pay <> 700"), ["Ada"])
        self.assertEqual(self.names("NOT (pay = 700)"), ["Ada"])
        self.assertEqual(self.names("pay < 1000"), ["Ada", "Cy"])
        self.assertEqual(self.names("pay = NULL"), [])
        self.assertEqual(self.names("boss = boss"), ["Bo", "Cy", "Di"])

    def test_three_truths(self):
        self.assertEqual(self.names("boss <> 9 OR pay > 800"), ["Ada", "Bo", "Cy"])
        self.assertEqual(self.names("NOT (boss = 9 AND pay > 0)"), ["Bo", "Cy"])
        self.assertEqual(self.names("NOT (boss = 1 AND pay > 0)"), ["Di"])
        self.assertEqual(self.names("NOT (pay = 700 OR boss = 9)"), [])
        self.assertEqual(self.names("(pay > 0) IS NULL"), ["Bo", "Di"])

    def test_arithmetic(self):
        self.assertEqual(self.db.query("SELECT pay + 1, NULL * 2, 1 / 0 FROM staff WHERE id < 3"),
                         [(901, None, None), (None, None, None)])

    def test_an_outer_join_with_and(self):
        query = "SELECT name, room FROM staff LEFT JOIN room ON room.staff = staff.id AND room.room <> 'C' ORDER BY name"
        self.assertEqual(self.db.query(query), [("Ada", "A"), ("Bo", None), ("Cy", "B"), ("Di", None)])

    def test_a_condition_on_the_left_side_keeps_the_row(self):
        query = "SELECT name, room FROM staff LEFT JOIN room ON room.staff = id AND pay > 800 ORDER BY id"
        self.assertEqual(self.db.query(query), [("Ada", "A"), ("Bo", None), ("Cy", None), ("Di", None)])

    def test_where_comes_after_joins(self):
        query = "SELECT name FROM staff LEFT JOIN room ON room.staff = id WHERE room IS NULL"
        self.assertEqual(self.db.query(query), [("Bo",), ("Di",)])

    def test_unknown_keys_have_no_partners(self):
        self.assertEqual(self.db.query("SELECT name, room FROM staff JOIN room ON room.staff = boss"),
                         [("Bo", "A"), ("Cy", "A")])

    def test_one_group_of_unknown_values(self):
        self.assertEqual(self.db.query("SELECT pay, COUNT(*) FROM staff GROUP BY pay ORDER BY pay"),
                         [(None, 2), (700, 1), (900, 1)])

    def test_aggregates(self):
        self.assertEqual(self.db.query("SELECT COUNT(pay), SUM(pay), AVG(pay), MIN(pay), MAX(pay), COUNT(*) FROM staff"),
                         [(2, 1600, 800.0, 700, 900, 4)])
        self.assertEqual(self.db.query("SELECT COUNT(x), SUM(x), AVG(x), MIN(x), MAX(x) FROM empty"),
                         [(0, None, None, None, None)])
        self.assertEqual(self.db.query("SELECT SUM(pay) FROM staff WHERE pay IS NULL"), [(None,)])

    def test_order(self):
        self.assertEqual(self.db.query("SELECT name FROM staff ORDER BY pay, name"), [("Bo",), ("Di",), ("Cy",), ("Ada",)])
        self.assertEqual(self.db.query("SELECT name FROM staff ORDER BY pay DESC, name"),
                         [("Ada",), ("Cy",), ("Bo",), ("Di",)])
