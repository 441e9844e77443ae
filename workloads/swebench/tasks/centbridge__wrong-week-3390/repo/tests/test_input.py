import unittest
from decimal import Decimal

from centbridge import MoneyError, RowError, format_money, parse_money, read_statement


class MoneyTests(unittest.TestCase):
    def test_notations(self):
        for text, value in (("1,234.5", "1234.50"), ("-20", "-20.00"), ("20.00-", "-20.00"),
                            ("(1,000.00)", "-1000.00"), ("+7.1", "7.10")):
            self.assertEqual(str(parse_money(text)), value)

    def test_malformed_amounts_are_refused(self):
        for text in ("", "12.345", "1,23.00", "(5.00", "--5", "EUR 5"):
            with self.assertRaises(MoneyError):
                parse_money(text)

    def test_format(self):
        self.assertEqual(format_money(Decimal("-1234.5")), "-1,234.50")
        self.assertEqual(format_money(Decimal("3"), signed=True), "+3.00")


class ReaderTests(unittest.TestCase):
    HEADER = "date,reference,amount,text\n"

    def test_rows_become_records(self):
        (record,) = read_statement(self.HEADER + '2024-03-01, inv 7 ,"1,200.00", rent \n')
        self.assertEqual((record.number, record.date.isoformat(), record.reference,
                          record.amount, record.text),
                         (1, "2024-03-01", "INV7", Decimal("1200.00"), "rent"))

    def test_bad_rows_are_named(self):
        for row in ("2024-03-32,,1.00,x", "2024-03-01,,one,x", "2024-03-01,,1.00"):
            with self.assertRaises(RowError) as caught:
                read_statement(self.HEADER + "2024-03-01,,1.00,ok\n" + row + "\n")
            self.assertEqual(caught.exception.row, 2)


if __name__ == "__main__":
    unittest.main()
