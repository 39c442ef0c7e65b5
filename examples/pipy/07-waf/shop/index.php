<?php
// A shop as it should not be written: whatever comes in goes into the query and the page as it is. For examples only.
mysqli_report(MYSQLI_REPORT_OFF);
$database = mysqli_connect('localhost', 'shop', 'shop', 'appdb', 0, getenv('SHOP_SOCKET'));
$category = $_POST['catid'] ?? '1';
$found = mysqli_query($database, "SELECT item_name, item_category, item_description FROM items WHERE item_category = $category");
?>
<h1>Mama's shop</h1>
<?php if (isset($_GET['q'])) { ?><p>You searched for <?= $_GET['q'] ?></p><?php } ?>
<form method="post"><select name="catid"><option value="1">Drinks<option value="2">Food<option value="3">Toys</select><button>Show</button></form>
<?php if (!$found) { ?><p>Error: <?= mysqli_error($database) ?></p><?php } else { ?>
<table>
<?php while ($row = mysqli_fetch_row($found)) { ?><tr><td><?= $row[0] ?></td><td><?= $row[1] ?></td><td><?= $row[2] ?></td></tr>
<?php } ?></table>
<?php } ?>
