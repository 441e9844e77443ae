import unittest

from querynook import Database, QueryError


class QueryTests(unittest.TestCase):
    def setUp(self):
        self.db = Database()
        self.db.table("staff", ["id", "name", "boss", "pay"], [
            [1, "Ada", None, 900], [2, "Bo", 1, 800], [3, "Cy", 1, 700], [4, "Di", 2, 700]])
        self.db.table("room", ["staff", "room"], [[1, "A"], [3, "B"], [3, "C"]])

    def check(self, query, *rows):
        self.assertEqual(self.db.query(query), list(rows))

    def test_columns_and_names(self):
        self.check("SELECT name, pay * 2 AS double FROM staff WHERE id = 1", ("Ada", 1800))
        self.assertEqual(self.db.names("SELECT s.name, pay * 2 AS double, 1 FROM staff s"), ["name", "double", "column3"])
        self.check("SELECT * FROM room WHERE room = 'B'", (3, "B"))

    def test_conditions(self):
        self.check("SELECT name FROM staff WHERE pay < 800 AND NOT id = 3", ("Di",))
        self.check("SELECT name FROM staff WHERE id = 1 OR id = 2 AND pay > 800", ("Ada",))
        self.check("SELECT name FROM staff WHERE boss IS NULL", ("Ada",))
        self.check("SELECT name FROM staff WHERE boss IS NOT NULL AND id < 3", ("Bo",))

    def test_joins(self):
        self.check("SELECT name, room FROM staff JOIN room ON room.staff = id", ("Ada", "A"), ("Cy", "B"), ("Cy", "C"))
        self.check("SELECT s.name, b.name FROM staff s JOIN staff b ON s.boss = b.id WHERE b.pay > 800",
                   ("Bo", "Ada"), ("Cy", "Ada"))

    def test_left_join(self):
        self.check("SELECT name, room FROM staff LEFT JOIN room ON room.staff = id WHERE id < 3", ("Ada", "A"), ("Bo", None))

    def test_groups(self):
        self.check("SELECT pay, COUNT(*), MIN(name) FROM staff GROUP BY pay ORDER BY pay",
                   (700, 2, "Cy"), (800, 1, "Bo"), (900, 1, "Ada"))
        self.check("SELECT SUM(pay), AVG(pay), MAX(pay) - MIN(pay) FROM staff", (3100, 775.0, 200))
        self.check("SELECT COUNT(*) FROM staff WHERE id > 9", (0,))

    def test_order_and_limit(self):
        self.check("SELECT name FROM staff ORDER BY pay, name DESC LIMIT 3", ("Di",), ("Cy",), ("Bo",))
        self.check("SELECT name, 0 - pay AS cost FROM staff ORDER BY cost LIMIT 1", ("Ada", -900))

    def test_errors(self):
        for query, reason in (("SELECT", "unexpected end"), ("SELECT x FROM staff", "column x is unknown"),
                              ("SELECT name FROM nobody", "no table nobody"), ("SELECT name FROM staff s WHERE", "unexpected end"),
                              ("SELECT s.id FROM staff s JOIN staff t ON id = 1", "id is ambiguous"),
                              ("SELECT name FROM staff WHERE name < 1", "cannot be compared"),
                              ("SELECT name FROM staff WHERE COUNT(*) > 1", "COUNT cannot stand here"),
                              ("SELECT name FROM staff LIMIT x", "whole number"), ("SELECT ? FROM staff", "cannot read")):
            with self.assertRaisesRegex(QueryError, reason, msg=query):
                self.db.query(query)


class LoadTests(unittest.TestCase):
    def test_csv(self):
        db = Database()
        db.load("t", "a,b\n1,x\n2.5,\n\n,y\n")
        self.assertEqual(db.query("SELECT a, b FROM t"), [(1, "x"), (2.5, None), (None, "y")])
        with self.assertRaises(QueryError):
            db.load("t", "a,b\n1\n")


if __name__ == "__main__":
    unittest.main()
